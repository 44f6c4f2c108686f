"""Layers stacked along another axis than the first, seen in the shapes of a model."""

from collections.abc import Mapping
from typing import NamedTuple

from ._axes import MatrixAxes, Shape, among
from ._default_axes import Layout, default_layout, sizes
from ._leaf_names import IN_A_NORM, STACK_WORDS, has_word, reason_to_leave_out

VECTORS = ("bias", "b", "scale", "offset", "beta", "gamma")
# Matrices so many times smaller, and so many times more of them, than along the other axis.
RATIO = 4


class Doubt(NamedTuple):
    """Why the axes of a weight may not be what they are taken for.

    Attributes:
        reason: Why, and how to settle it.
        axes: What they are likelier to be.
    """

    reason: str
    axes: MatrixAxes


def doubt(name: str, shapes: Mapping[str, Shape], layout: Layout) -> Doubt | None:
    """Whether the first axis of a weight may not be that of a stack.

    The leaves around it tell, if there are biases or scales of two axes among them: of a stack,
    all of them have as many entries along one axis. Without them, a stack along the second axis,
    read along the first, gives far more and far smaller matrices: [256, 4, 1024] is 256 of
    4 x 1024, or 4 of 256 x 1024.
    """
    shape = shapes[name]
    if len(shape) < 3 or layout.kind not in ("", "dense", "conv"):
        return None
    other = {
        one: (its[0], *its[2:]) if len(its) > 2 and its[1] == shape[1] else its
        for one, its in shapes.items()
    }
    batch, rows, cols = sizes(shape, layout.axes)
    likelier = default_layout(name, other).axes
    other_batch, other_rows, other_cols = sizes(other[name], likelier)
    other_batch *= shape[1]
    vector, axis = _neighbour(name, shapes)
    if axis == 1:
        because = f"{vector!r} of shape {shapes[vector]}, and all around, has them on the second"
    elif (
        axis == 0
        or layout.axes.window
        or not (
            batch >= RATIO * other_batch and min(other_rows, other_cols) >= RATIO * min(rows, cols)
        )
    ):
        return None
    else:
        because = f"{other_batch} of {other_rows} x {other_cols} are likelier"
    pattern = _pattern(name)
    reason = (
        f"{name!r} is of shape {shape}, which reads as {batch} matrices of {rows} x {cols}; "
        f"expected layers stacked on the first axis, but {because}; give axes={{{pattern!r}: "
        f"Stacked(1)}} if they lie on the second axis, or {{{name!r}: MatrixAxes()}} if not"
    )
    left = (0, *range(2, len(shape)))
    return Doubt(reason, among(likelier, left, len(shape)))


def _neighbour(name: str, shapes: Mapping[str, Shape]) -> tuple[str, int | None]:
    """A bias or scale of two axes around a weight, and the axis that all leaves there share."""
    parts = name.split("/")
    for length in range(len(parts) - 1, -1, -1):
        prefix = "".join(f"{part}/" for part in parts[:length])
        around = {
            other: shape
            for other, shape in shapes.items()
            if other.startswith(prefix) and shape and not _is_of_heads(other, shapes)
        }
        vectors = [other for other in around if _is_vector(other)]
        if any(len(shape) < 2 for shape in around.values()):
            break
        common = [len({shape[axis] for shape in around.values()}) == 1 for axis in range(2)]
        if vectors and common[0] != common[1]:
            return vectors[0], common.index(True)
        if not any(common):
            break
    return "", None


def _is_of_heads(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a leaf is the bias [heads, dim] of a kernel [d, heads, dim]."""
    layer, _, last = name.rpartition("/")
    return last == "bias" and shapes.get(f"{layer}/kernel", ())[-2:] == shapes[name]


def _is_vector(name: str) -> bool:
    return name.split("/")[-1] in VECTORS or reason_to_leave_out(name, 2) == IN_A_NORM


def _pattern(name: str) -> str:
    """The path of the stack that a leaf lies in, as its words tell, or that of the leaf."""
    parts = name.split("/")
    for length in range(1, len(parts)):
        if has_word([parts[length - 1]], STACK_WORDS):
            return "/".join(parts[:length]) + "/*"
    return name
