"""Layers stacked along another axis than the first, seen in the shapes of a model."""

from collections.abc import Iterator, Mapping
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


class Branch(NamedTuple):
    """What the leaves under one path have in common.

    Attributes:
        first: Their sizes along the first axis.
        second: Their sizes along the second.
        vectors: The biases and scales of two axes among them.
    """

    first: set[int]
    second: set[int]
    vectors: list[str]


def branches(shapes: Mapping[str, Shape]) -> dict[str, Branch]:
    """The branches of a model in which every leaf has two axes or more, as in a stack."""
    found: dict[str, Branch] = {}
    for name, shape in shapes.items():
        if not shape or _is_of_heads(name, shapes):
            continue
        for prefix in _prefixes(name):
            branch = found.setdefault(prefix, Branch(set(), set(), []))
            # -1: a vector of one axis, and so no stack.
            branch.first.add(shape[0] if len(shape) > 1 else -1)
            branch.second.add(shape[1] if len(shape) > 1 else -1)
            if len(shape) == 2 and not branch.vectors and _is_vector(name):
                branch.vectors.append(name)
    return {prefix: branch for prefix, branch in found.items() if -1 not in branch.first}


def stacked_first(
    name: str, shapes: Mapping[str, Shape], layout: Layout, around: Mapping[str, Branch]
) -> Layout:
    """The layout of a weight whose first axis is that of a stack, as the leaves around it tell.

    So a stack of convolutions is told from one with a larger window, and stacked layers called
    query from one with heads.
    """
    shape = shapes[name]
    vector, axis = _neighbour(name, around) if len(shape) > 2 else ("", None)
    if axis != 0 or _is_batch(0, layout.axes, len(shape)):
        return layout
    one = default_layout(name, _Without(shapes, 0, shape[0]))
    axes = among(one.axes, tuple(range(1, len(shape))), len(shape))
    return Layout(one.kind, axes, f"{one.rule}, stacked as {vector!r} is")


def doubt(
    name: str, shapes: Mapping[str, Shape], layout: Layout, around: Mapping[str, Branch]
) -> Doubt | None:
    """Whether the first axis of a weight may not be that of a stack.

    The leaves around it tell, if there are biases or scales of two axes among them: of a stack,
    all of them have as many entries along one axis. Without them, a stack along the second axis,
    read along the first, gives far more and far smaller matrices: [256, 4, 1024] is 256 of
    4 x 1024, or 4 of 256 x 1024.
    """
    shape = shapes[name]
    if len(shape) < 3 or layout.kind not in ("", "dense", "conv"):
        return None
    vector, axis = _neighbour(name, around)
    if axis == 0 or (axis is None and layout.axes.window):
        return None
    other = _Without(shapes, 1, shape[1])
    likelier = default_layout(name, other).axes
    batch, rows, cols = sizes(shape, layout.axes)
    other_batch, other_rows, other_cols = sizes(other[name], likelier)
    other_batch *= shape[1]
    if axis == 1:
        because = f"{vector!r} of shape {shapes[vector]}, and all around, has them on the second"
    elif batch >= RATIO * other_batch and min(other_rows, other_cols) >= RATIO * min(rows, cols):
        because = f"{other_batch} of {other_rows} x {other_cols} are likelier"
    else:
        return None
    reason = (
        f"{name!r} is of shape {shape}, which reads as {batch} matrices of {rows} x {cols}; "
        f"expected layers stacked on the first axis, but {because}; give axes={{{_pattern(name)!r}:"
        f" Stacked(1)}} if they lie on the second axis, or {{{name!r}: MatrixAxes()}} if not"
    )
    return Doubt(reason, among(likelier, (0, *range(2, len(shape))), len(shape)))


def _is_batch(axis: int, axes: MatrixAxes, ndim: int) -> bool:
    named = (axes.rows, axes.cols, axes.window)
    used = {one % ndim for part in named for one in (part if isinstance(part, tuple) else (part,))}
    return axis not in used


class _Without(Mapping[str, Shape]):
    """Shapes without an axis of one size, for those of three axes or more."""

    def __init__(self, shapes: Mapping[str, Shape], axis: int, size: int):
        self.shapes, self.axis, self.size = shapes, axis, size

    def __getitem__(self, name: str) -> Shape:
        shape = self.shapes[name]
        if len(shape) < 3 or shape[self.axis] != self.size:
            return shape
        return shape[: self.axis] + shape[self.axis + 1 :]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _neighbour(name: str, around: Mapping[str, Branch]) -> tuple[str, int | None]:
    """A bias or scale of two axes around a weight, and the axis that all leaves there share."""
    for prefix in _prefixes(name):
        branch = around.get(prefix)
        if branch is None:
            break
        common = [len(branch.first) == 1, len(branch.second) == 1]
        if branch.vectors and common[0] != common[1]:
            return branch.vectors[0], common.index(True)
        if not any(common):
            break
    return "", None


def _prefixes(name: str) -> Iterator[str]:
    """The paths that a leaf lies under, the nearest first."""
    parts = name.split("/")
    for length in range(len(parts) - 1, -1, -1):
        yield "".join(f"{part}/" for part in parts[:length])


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
