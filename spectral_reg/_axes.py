"""Which axes of a weight make its matrix."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ._equinox import equinox_weights
from ._trees import PyTree, check_patterns, matches, path_name


class MatrixAxes(NamedTuple):
    r"""Which axes of a weight make the rows of its matrix, and which the columns.

    Axes that are not named are a batch of matrices: layers stacked by a scan, or the query, key and
    value of one kernel. Negative axes count from the end, so that one specification serves a layer
    and a stack of it. It goes into the argument ``axes`` of :func:`layer_matrices` and its kin, by
    path; without it the axes follow from the layer's name and number of axes:

    ============================================ ================================= =============
    weight                                       matrix                            batch
    ============================================ ================================= =============
    kernel, w, embedding ``[..., in, out]``      ``[in, out]``                     ``...``
    weight ``[..., out, in]``, up to three axes  ``[out, in]``                     ``...``
    query, key, value ``[..., d, heads, dim]``   ``[d, heads * dim]``              ``...``
    out beside a query ``[..., heads, dim, d]``  ``[heads * dim, d]``              ``...``
    qkv ``[..., d, 3, heads, dim]``              ``[d, heads * dim]``              ``..., 3``
    qkv ``[..., 3, d, heads, dim]``              ``[d, heads * dim]``              ``..., 3``
    qkv ``[..., d, 3, out]``                     ``[d, out]``                      ``..., 3``
    kernel, w ``[*window, in, out]``             ``[in, out]`` and a window
    weight ``[out, in, *window]``                ``[in, out]`` and a window
    ============================================ ================================= =============

    (``kv`` is as ``qkv`` with 2 for 3.) Query, key and value of three axes or more are read as
    attention heads unless the ``out`` beside them has others: then they are stacked dense layers.

    A weight is a convolution if it has four axes or more, or three and a layer with "conv" in its
    name. So a stack of convolutions [layers, height, width, in, out] is read as a three-dimensional
    one. With ``conv="slices"`` that is the same; for the others say
    ``MatrixAxes(rows=-2, cols=-1, window=(-4, -3))``.

    The layers of a live Equinox model say what they are, whatever they are called: a convolution
    has its window and groups, and a stack of them, as ``filter_vmap`` makes it, is a batch.

    Otherwise the kernel of a grouped convolution, [\*window, in / groups, out], does not say how
    many groups it has. With ``groups``, its matrices are the diagonal blocks [in / groups, out /
    groups] of the layer's matrix: a batch whose spectra together are the layer's. Without, the
    blocks stand side by side as one matrix [in / groups, out]. A depthwise kernel [\*window, 1,
    out], or one for an input of one channel, has slices of one row, and those no spectrum: it is
    never cut up, but always read as one matrix [window, out] (a column [window, 1] for each group,
    where ``groups`` is given).

    Attributes:
        rows: The axis or axes of the rows, usually the layer's input.
        cols: The axis or axes of the columns.
        window: The axes of a convolution's window, which the argument ``conv`` deals with.
        groups: The groups of the columns that see rows of their own, as in a grouped convolution.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"q_einsum": {"w": jnp.ones((8, 64, 16))}}  # heads, features, head_dim
        >>> axes = {"*/w": sr.MatrixAxes(rows=-2, cols=(-3, -1))}
        >>> sr.layer_matrices(params, axes=axes)["q_einsum/w"].shape
        (64, 128)

    References:
        optax.contrib.MuonDimensionNumbers, for the same thing in the Muon optimizer.
    """

    rows: int | tuple[int, ...] = -2
    cols: int | tuple[int, ...] = -1
    window: int | tuple[int, ...] = ()
    groups: int = 1


class Roles(NamedTuple):
    """The axes of one weight, each once, counted from the front."""

    batch: tuple[int, ...]
    window: tuple[int, ...]
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    groups: int


Axes = Mapping[str, MatrixAxes] | None
Shape = tuple[int, ...]

PROJECTIONS = ("query", "key", "value")
FUSED = {"qkv": 3, "qkv_proj": 3, "kv": 2, "kv_proj": 2}


def resolve_axes(params: PyTree, names: Mapping[str, Any], axes: Axes) -> dict[str, MatrixAxes]:
    """The axes of the named leaves: the first pattern that matches, or the default.

    The defaults look at a leaf's neighbours, so they need all of ``params``.

    Raises:
        ValueError: If a pattern matches no path.
        TypeError: If ``axes`` is no mapping of MatrixAxes.
    """
    if not isinstance(axes, Mapping | None):
        raise TypeError(f"axes is {axes!r}; expected a dict of path patterns to MatrixAxes")
    axes = {} if axes is None else axes
    for pattern, value in axes.items():
        if not isinstance(value, MatrixAxes):
            raise TypeError(f"axes has {value!r} for {pattern!r}; expected MatrixAxes(rows, cols)")
    shapes = {
        path_name(path): tuple(getattr(leaf, "shape", ()))
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    check_patterns(axes, shapes, "axes")
    layers = equinox_weights(params)
    return {
        name: next((a for pattern, a in axes.items() if matches(name, pattern)), None)
        or equinox_axes(*layers.get(name, ("", None)), shapes[name])
        or _default_axes(name, shapes)
        for name in names
    }


def equinox_axes(kind: str, layer: Any, shape: Shape) -> MatrixAxes | None:
    """The axes of an Equinox layer's weight, from the last on; None where its kind tells none."""
    if kind in ("dense", "embedding"):
        return MatrixAxes()
    if not kind.startswith("conv"):
        return None
    window = tuple(range(-layer.num_spatial_dims, 0))
    rows, cols = window[0] - 1, window[0] - 2
    # Of a depthwise kernel the groups would be columns; all of it is one matrix.
    return MatrixAxes(rows, cols, window, layer.groups if shape[rows] > 1 else 1)


def arrange(name: str, leaf: Any, axes: MatrixAxes) -> tuple[Any, int, int]:
    """The weight as ``[*batch, groups, *window, rows, cols]``, without an axis for one group.

    Returns:
        The array, and how many of its axes are the batch and the window.

    Raises:
        ValueError: If the axes do not fit the weight.
    """
    roles = _roles(name, leaf.shape, axes)
    batch, window = ([leaf.shape[axis] for axis in part] for part in (roles.batch, roles.window))
    rows, cols = (math.prod(leaf.shape[axis] for axis in part) for part in (roles.rows, roles.cols))
    array = leaf.transpose(roles.batch + roles.window + roles.rows + roles.cols)
    if roles.groups == 1:
        return array.reshape(*batch, *window, rows, cols), len(batch), len(window)
    array = array.reshape(*batch, *window, rows, roles.groups, cols // roles.groups)
    order = list(range(array.ndim))
    order.insert(len(batch), order.pop(-2))
    return array.transpose(order), len(batch), len(window)


def _roles(name: str, shape: Shape, axes: MatrixAxes) -> Roles:
    ndim = len(shape)
    came = f"axes gives {name!r} of shape {shape} {axes}"
    parts = [tuple(part) if isinstance(part, Sequence) else (part,) for part in axes[:3]]
    if not (parts[0] and parts[1]):
        raise ValueError(f"{came}; expected at least one axis for rows and one for cols")
    named = [axis for part in parts for axis in part]
    if not all(isinstance(axis, int) and -ndim <= axis < ndim for axis in named):
        raise ValueError(f"{came}; expected axes from {-ndim} to {ndim - 1}")
    rows, cols, window = (tuple(axis % ndim for axis in part) for part in parts)
    used = rows + cols + window
    if len(set(used)) < len(used):
        raise ValueError(f"{came}; expected each axis at most once")
    num_cols = math.prod(shape[axis] for axis in cols)
    if not isinstance(axes.groups, int) or axes.groups < 1 or num_cols % axes.groups:
        raise ValueError(f"{came}; expected groups that divide its {num_cols} columns")
    batch = tuple(axis for axis in range(ndim) if axis not in used)
    return Roles(batch, window, rows, cols, axes.groups)


def _default_axes(name: str, shapes: Mapping[str, Shape]) -> MatrixAxes:
    shape = shapes[name]
    *parents, layer, last = ["", *name.split("/")]

    def beside(layer: str) -> Shape:
        return shapes.get("/".join((*parents, layer, last)).removeprefix("/"), ())

    if len(shape) <= 2:
        return MatrixAxes()
    if layer in PROJECTIONS and _has_heads(beside("query") or shape, beside("out")):
        return MatrixAxes(rows=-3, cols=(-2, -1))
    if layer == "out" and _has_heads(beside("query"), shape):
        return MatrixAxes(rows=(-3, -2), cols=-1)
    if layer in FUSED:
        return _fused_axes(shape, FUSED[layer])
    if len(shape) >= 4 or "conv" in layer.lower():
        if last == "weight":
            return MatrixAxes(rows=1, cols=0, window=tuple(range(2, len(shape))))
        return MatrixAxes(window=tuple(range(len(shape) - 2)))
    return MatrixAxes()


def _has_heads(query: Shape, out: Shape) -> bool:
    """Whether a query ``[..., d, heads, dim]`` has an out ``[..., heads, dim, d]``, or none."""
    # A stacked dense layer [layers, d, d] has three axes too, and so has its out, but other ones.
    return len(query) >= 3 and (len(out) < 3 or out[-3:-1] == query[-2:])


def _fused_axes(shape: Shape, num: int) -> MatrixAxes:
    if len(shape) >= 4 and shape[-3] == num:
        return MatrixAxes(-4, (-2, -1))
    if len(shape) >= 4 and shape[-4] == num:
        return MatrixAxes(-3, (-2, -1))
    if shape[-2] == num:
        return MatrixAxes(-3, -1)
    return MatrixAxes()
