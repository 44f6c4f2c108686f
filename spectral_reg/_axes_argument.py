"""The argument ``axes``: what users have to say about the axes of their weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

from ._axes import MatrixAxes, Shape
from ._leaf_names import STACK_WORDS, has_word
from ._trees import PyTree, check_patterns, matches, path_name


class Stacked(NamedTuple):
    """Along which axes layers are stacked; what is left is read like a layer of its own.

    For the argument ``axes`` of :func:`layer_matrices` and other functions, where every weight
    would need :class:`MatrixAxes` of its own: under ``{"layers/*": Stacked(1)}`` a kernel
    [in, layers, out], attention heads [d, layers, heads, dim] and the scale of a norm [d, layers]
    are read as they would be without the second axis.

    Attributes:
        axis: The axis or axes. They come first in what :func:`layer_matrices` gives.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"layers": {"query": {"kernel": jnp.ones((256, 4, 8, 32))}}}
        >>> axes = {"layers/*": sr.Stacked(1)}
        >>> sr.layer_matrices(params, axes=axes)["layers/query/kernel"].shape
        (4, 256, 256)
    """

    axis: int | tuple[int, ...] = 0


# None leaves a weight out, as it does in the trees of optax.contrib.muon.
Told = MatrixAxes | Stacked | None
Axes = PyTree | Callable[[PyTree], PyTree] | None


class ResolvedAxes(dict[str, MatrixAxes]):
    """The axes of each leaf by its path, with no pattern and no question left."""


class ToldAxes(NamedTuple):
    """What the argument says.

    Attributes:
        entries: By path or pattern, in order: the first that fits counts.
    """

    entries: Mapping[str, Told]

    def of(self, names: Iterable[str]) -> dict[str, Told]:
        """What is said of each leaf, where anything is."""
        first = {name: self._entry(name) for name in names}
        return {name: self.entries[entry] for name, entry in first.items() if entry is not None}

    def asked_for(self, reasons: Mapping[str, str]) -> set[str]:
        """The leaves whose axes are given in full, though they do not count as matrices.

        Args:
            reasons: Of the leaves of two axes and more: why not by itself; empty where it is one.
        """
        asked: set[str] = set()
        for entry, told in self.entries.items():
            if isinstance(told, MatrixAxes) and entry:
                fitting = {name for name in reasons if self._entry(name) == entry}
                # A pattern is for the matrices among what it fits, if there are any.
                if entry in fitting or all(reasons[name] for name in fitting):
                    asked |= fitting
        return asked

    def _entry(self, name: str) -> str | None:
        if isinstance(self.entries, ResolvedAxes):
            return name if name in self.entries else None
        return next((entry for entry in self.entries if _fits(name, entry)), None)


def read_axes(axes: Axes, params: PyTree, names: list[str]) -> ToldAxes:
    """What the argument ``axes`` says, whatever form it has.

    Raises:
        ValueError: If a pattern fits no path.
        TypeError: If there is anything else in it.
    """
    if callable(axes) and not isinstance(axes, Mapping) and jax.tree_util.all_leaves([axes]):
        axes = axes(params)
    if axes is None or isinstance(axes, ResolvedAxes):
        return ToldAxes(axes or {})
    if _is_told(axes):
        return ToldAxes({"": _told("", axes)})
    if not jax.tree.leaves(axes, is_leaf=_is_told) or jax.tree_util.all_leaves([axes]):
        raise TypeError(
            f"axes is {axes!r}; expected a dict of path patterns to MatrixAxes or Stacked, or a "
            "tree such as optax.contrib.muon takes"
        )
    is_tree = not (isinstance(axes, Mapping) and all(_is_told(value) for value in axes.values()))
    entries = {name: _told(name, value) for name, value in _entries(axes, ())}
    # A module has its own None, where it has no bias: only patterns have to fit.
    needed = [n for n, told in entries.items() if not is_tree or told is not None]
    for name in needed:
        if not any(_fits(other, name) for other in names):
            check_patterns([name], names, "axes")
    return ToldAxes(entries)


def partition_names(params: PyTree) -> dict[str, Stacked]:
    """The stacked axes that the metadata of Flax tell: those of the leaves that have any."""
    nodes = jax.tree.leaves_with_path(params, is_leaf=lambda node: _axis_names(node) is not None)
    found = {path_name(path): _stacked(_axis_names(node) or ()) for path, node in nodes}
    return {name: stacked for name, stacked in found.items() if stacked.axis}


def without(shape: Shape, stacked: Stacked, name: str) -> tuple[Shape, tuple[int, ...]]:
    """A shape without its stacked axes, and which axes are left.

    Raises:
        ValueError: If it has no such axis.
    """
    axes = stacked.axis if isinstance(stacked.axis, tuple) else (stacked.axis,)
    ndim = len(shape)
    if not all(isinstance(axis, int) and -ndim <= axis < ndim for axis in axes):
        raise ValueError(
            f"axes gives {name!r} of shape {shape} {stacked}; expected axes from {-ndim} to "
            f"{ndim - 1}"
        )
    gone = {axis % ndim for axis in axes}
    left = tuple(axis for axis in range(ndim) if axis not in gone)
    return tuple(shape[axis] for axis in left), left


def _fits(name: str, pattern: str) -> bool:
    return matches(name, pattern) or name.startswith(f"{pattern}/") or not pattern


def _entries(tree: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The leaves in the order in which a dict has them: JAX would sort them."""
    if isinstance(tree, Mapping) and not _is_told(tree):
        for key, value in tree.items():
            yield from _entries(value, (*path, jax.tree_util.DictKey(key)))
        return
    for rest, value in jax.tree.leaves_with_path(tree, is_leaf=_is_entry):
        yield path_name(path + rest), value


def _is_told(value: Any) -> bool:
    known = isinstance(value, MatrixAxes | Stacked | PartitionSpec | None)
    return known or _is_muon(value) or _axis_names(value) is not None


def _is_entry(value: Any) -> bool:
    # A tuple of numbers is a mistake of its user, of whom this is said; one of names is an entry.
    plain = type(value) in (tuple, list) and all(isinstance(v, int | str | None) for v in value)
    return plain or _is_told(value)


def _is_muon(value: Any) -> bool:
    return type(value).__name__ == "MuonDimensionNumbers"


def _told(name: str, value: Any) -> Told:
    if isinstance(value, MatrixAxes | Stacked | None):
        return value
    if _is_muon(value):
        return MatrixAxes(_ints(value.reduction_axis), _ints(value.output_axis))
    names = _axis_names(value)
    if isinstance(value, PartitionSpec) or (
        type(value) is tuple and all(isinstance(name, str | None) for name in value)
    ):
        names = tuple(value)
    if names is None:
        raise TypeError(
            f"axes has {value!r} for {name!r}; expected MatrixAxes(rows, cols), Stacked(axis), "
            "MuonDimensionNumbers, a PartitionSpec or None"
        )
    return _stacked(names)


def _ints(axes: Any) -> int | tuple[int, ...]:
    return axes if isinstance(axes, int) else tuple(axes)


def _stacked(names: tuple[Any, ...]) -> Stacked:
    return Stacked(
        tuple(
            axis
            for axis, name in enumerate(names)
            if isinstance(name, str) and has_word([name], STACK_WORDS)
        )
    )


def _axis_names(node: Any) -> tuple[Any, ...] | None:
    """The names that Flax gives the axes of a value: of Linen's boxes, of variables of nnx."""
    if not type(node).__module__.startswith("flax."):
        return None
    names = getattr(node, "names", None)
    if names is None and hasattr(node, "get_metadata"):
        metadata = node.get_metadata()
        names = metadata.get("out_sharding") or metadata.get("sharding_names")
        names = metadata.get("sharding") if names is None else names
    return tuple(names) if isinstance(names, tuple | list | PartitionSpec) else None
