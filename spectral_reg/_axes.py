"""Which axes of a weight make its matrix."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class MatrixAxes(NamedTuple):
    r"""Which axes of a weight make the rows of its matrix, and which the columns.

    Axes that are not named are a batch of matrices: layers stacked by a scan, or the query, key and
    value of one kernel. Negative axes count from the end, so that one specification serves a layer
    and a stack of it. Give it in ``axes`` to :func:`layer_matrices` and every function that has it;
    without it the axes follow from the names and shapes of the model, which
    :func:`explain_layers` shows with the rule for each:

    ============================================ ================================= =============
    weight                                       matrix                            batch
    ============================================ ================================= =============
    kernel, w, embedding ``[..., in, out]``      ``[in, out]``                     ``...``
    weight ``[..., out, in]``, up to three axes  ``[out, in]``                     ``...``
    query, key, value ``[..., d, heads, dim]``   ``[d, heads * dim]``              ``...``
    out beside a query ``[..., heads, dim, d]``  ``[heads * dim, d]``              ``...``
    q, kv, qkv einsum ``[..., heads, d, dim]``   ``[d, heads * dim]``              ``...``
    qkv ``[..., d, 3, heads, dim]``              ``[d, heads * dim]``              ``..., 3``
    qkv ``[..., 3, d, heads, dim]``              ``[d, heads * dim]``              ``..., 3``
    qkv ``[..., d, 3, out]``                     ``[d, out]``                      ``..., 3``
    qkv ``[..., d, 3 * d]``                      ``[d, d]``                        ``..., 3``
    gates ``[..., in, 4 * hidden]`` of an LSTM   ``[in, hidden]``                  ``..., 4``
    experts ``[..., experts, in, out]``          ``[in, out]``                     ``..., experts``
    kernel, w ``[*window, in, out]``             ``[in, out]`` and a window
    weight ``[out, in, *window]``                ``[in, out]`` and a window
    ============================================ ================================= =============

    (``kv`` is as ``qkv`` with 2 for 3, a GRU as an LSTM with 3 for 4.) Query, key and value of
    three axes or more are read as attention heads unless the ``out`` beside them has others: then
    they are stacked dense layers.

    A kernel, weight or w is a convolution if it has four axes or more, or three and a layer with
    "conv" in its name. So a stack of convolutions [layers, height, width, in, out] is read as a
    three-dimensional one, unless stacked biases or scales around it tell. With ``conv="slices"``
    that is the same; for the others say ``MatrixAxes(window=(-4, -3))``, or :class:`Stacked`.

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
        parts: How many matrices of equal width stand side by side in the columns, or their names,
            such as query, key and value. They are the last axis of the batch.
        batch: Axes of the batch that come first; the others follow as they are.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"mixer": {"w": jnp.ones((8, 64, 16))}}  # heads, features, dimensions of each
        >>> axes = {"*/w": sr.MatrixAxes(rows=-2, cols=(-3, -1))}
        >>> sr.layer_matrices(params, axes=axes)["mixer/w"].shape
        (64, 128)

    References:
        optax.contrib.MuonDimensionNumbers, for the same thing in the Muon optimizer.
    """

    rows: int | tuple[int, ...] = -2
    cols: int | tuple[int, ...] = -1
    window: int | tuple[int, ...] = ()
    groups: int = 1
    parts: int | tuple[str, ...] = 1
    batch: int | tuple[int, ...] = ()


class Roles(NamedTuple):
    """The axes of one weight, each once, counted from the front."""

    batch: tuple[int, ...]
    window: tuple[int, ...]
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    groups: int
    num_parts: int


Shape = tuple[int, ...]


def part_names(axes: MatrixAxes) -> tuple[str, ...]:
    """The parts of the columns by name, or by number; empty where they are one matrix."""
    if isinstance(axes.parts, int):
        return tuple(map(str, range(axes.parts))) if axes.parts > 1 else ()
    return axes.parts


def among(axes: MatrixAxes, left: tuple[int, ...], ndim: int) -> MatrixAxes:
    """Axes of a shape without some of its axes, as axes of the whole.

    Args:
        axes: Of the shape that is left.
        left: Which axes of the whole are left.
        ndim: Of the whole. The axes that are not left come first in the batch.
    """

    def placed(part: int | tuple[int, ...]) -> tuple[int, ...]:
        axes_of_part = part if isinstance(part, tuple) else (part,)
        return tuple(left[axis % len(left)] for axis in axes_of_part)

    rows, cols, window = (placed(part) for part in axes[:3])
    first = tuple(axis for axis in range(ndim) if axis not in left)
    return axes._replace(rows=rows, cols=cols, window=window, batch=first)


def arrange(name: str, leaf: Any, axes: MatrixAxes) -> tuple[Any, int, int]:
    """The weight as ``[*batch, parts, groups, *window, rows, cols]``, without an axis for one.

    Returns:
        The array, and how many of its axes are the batch, parts included, and the window.

    Raises:
        ValueError: If the axes do not fit the weight.
    """
    roles = _roles(name, leaf.shape, axes)
    batch, window = ([leaf.shape[axis] for axis in part] for part in (roles.batch, roles.window))
    rows, cols = (math.prod(leaf.shape[axis] for axis in part) for part in (roles.rows, roles.cols))
    array = leaf.transpose(roles.batch + roles.window + roles.rows + roles.cols)
    num = max(roles.groups, roles.num_parts)
    if num == 1:
        return array.reshape(*batch, *window, rows, cols), len(batch), len(window)
    array = array.reshape(*batch, *window, rows, num, cols // num)
    order = list(range(array.ndim))
    order.insert(len(batch), order.pop(-2))
    return array.transpose(order), len(batch) + (roles.num_parts > 1), len(window)


def arranged_shape(name: str, shape: Shape, axes: MatrixAxes) -> Shape:
    """The shape that :func:`arrange` gives."""
    roles = _roles(name, shape, axes)
    batch, window = (tuple(shape[axis] for axis in part) for part in (roles.batch, roles.window))
    rows, cols = (math.prod(shape[axis] for axis in part) for part in (roles.rows, roles.cols))
    num = max(roles.groups, roles.num_parts)
    return (*batch, *((num,) if num > 1 else ()), *window, rows, cols // num)


def _roles(name: str, shape: Shape, axes: MatrixAxes) -> Roles:
    ndim = len(shape)
    came = f"axes gives {name!r} of shape {shape} {axes}"
    parts = [
        tuple(part) if isinstance(part, Sequence) else (part,)
        for part in (axes.rows, axes.cols, axes.window, axes.batch)
    ]
    if not (parts[0] and parts[1]):
        raise ValueError(f"{came}; expected at least one axis for rows and one for cols")
    named = [axis for part in parts for axis in part]
    if not all(isinstance(axis, int) and -ndim <= axis < ndim for axis in named):
        raise ValueError(f"{came}; expected axes from {-ndim} to {ndim - 1}")
    rows, cols, window, first = (tuple(axis % ndim for axis in part) for part in parts)
    used = rows + cols + window + first
    if len(set(used)) < len(used):
        raise ValueError(f"{came}; expected each axis at most once")
    num_cols = math.prod(shape[axis] for axis in cols)
    num_parts = len(part_names(axes)) or axes.parts
    for field, number in (("groups", axes.groups), ("parts", num_parts)):
        if not isinstance(number, int) or number < 1 or num_cols % number:
            raise ValueError(f"{came}; expected {field} that divide its {num_cols} columns")
    if axes.groups > 1 < num_parts:  # type: ignore[operator]
        raise ValueError(f"{came}; expected groups or parts, not both")
    batch = first + tuple(axis for axis in range(ndim) if axis not in used)
    return Roles(batch, window, rows, cols, axes.groups, num_parts)  # type: ignore[arg-type]
