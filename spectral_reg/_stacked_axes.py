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

    Biases and scales beside it tell: they have one axis in a layer, and [layers, d] or [d, layers]
    in a stack. Without them, a stack along the second axis, read along the first, gives far more
    and far smaller matrices: [256, 4, 1024] is 256 of 4 x 1024, or 4 of 256 x 1024.
    """
    shape = shapes[name]
    if len(shape) < 3 or layout.kind not in ("", "dense") or layout.axes.window:
        return None
    other = {**shapes, name: (shape[0], *shape[2:])}
    batch, rows, cols = sizes(shape, layout.axes)
    likelier = default_layout(name, other).axes
    other_batch, other_rows, other_cols = sizes(other[name], likelier)
    other_batch *= shape[1]
    vector, axis = _neighbour(name, shapes)
    if axis == 1:
        because = f"{vector!r} of shape {shapes[vector]} has layers on the second"
    elif axis == 0 or not (
        batch >= RATIO * other_batch and min(other_rows, other_cols) >= RATIO * min(rows, cols)
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
    """The nearest bias or scale of two axes, and which axis of both is that of a stack."""
    shape = shapes[name]
    parts = name.split("/")
    for length in range(len(parts) - 1, 0, -1):
        prefix = "/".join(parts[:length]) + "/"
        vectors = [other for other in shapes if other.startswith(prefix) and _is_vector(other)]
        for vector in vectors:
            one = shapes[vector]
            # The bias of attention heads is [heads, dim].
            if len(one) == 2 and one != shape[-2:] and (one[0] == shape[0]) != (one[1] == shape[1]):
                return vector, 0 if one[0] == shape[0] else 1
        if vectors:
            break
    return "", None


def _is_vector(name: str) -> bool:
    return name.split("/")[-1] in VECTORS or reason_to_leave_out(name, 2) == IN_A_NORM


def _pattern(name: str) -> str:
    """The path of the stack that a leaf lies in, as its words tell, or that of the leaf."""
    parts = name.split("/")
    for length in range(len(parts) - 1, 0, -1):
        if has_word([parts[length - 1]], STACK_WORDS):
            return "/".join(parts[:length]) + "/*"
    return name
