"""The products of a spectrum, as what one device does with its block of W."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

HIGHEST = jax.lax.Precision.HIGHEST
Names = tuple[str, ...]


class Layout(NamedTuple):
    """The mesh axes that cut each axis of a stack of matrices."""

    batch: tuple[Names, ...]
    rows: Names
    cols: Names


def layout_of(spec: PartitionSpec, ndim: int) -> Layout:
    """The layout of a stack of ``ndim`` axes under a partition spec."""
    names = names_of(spec, ndim)
    return Layout(tuple(names[:-2]), names[-2], names[-1])


def names_of(spec: PartitionSpec, ndim: int) -> list[Names]:
    """The mesh axes that cut each of ``ndim`` axes."""
    entries = tuple(spec) + (None,) * (ndim - len(spec))
    return [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in entries]


def gram(w: jax.Array, *, layout: Layout) -> jax.Array:
    """W^* W, on every device."""
    w = _whole_rows(w, layout)
    part = jnp.einsum("...ni,...nj->...ij", w.conj(), w, precision=HIGHEST)
    return _everywhere(part, layout.rows + layout.cols, layout)


def squared_column_norms(w: jax.Array, V: jax.Array, *, layout: Layout) -> jax.Array:
    """||W v_i||^2 of the columns of V, on every device."""
    if V.shape[-1] < w.shape[-1]:
        product, summed = _few_columns(w, V, layout), layout.rows
    else:
        product = jnp.matmul(_whole_rows(w, layout), V, precision=HIGHEST)
        summed = layout.rows + layout.cols
    return _everywhere(jnp.sum((product.conj() * product).real, axis=-2), summed, layout)


def gram_times(w: jax.Array, V: jax.Array, *, layout: Layout) -> jax.Array:
    """W^T (W V), on every device, for K much less than M."""
    product = _few_columns(w, V, layout)
    back = jnp.einsum("...nm,...nk->...mk", w, product, precision=HIGHEST)
    back = _gathered(back, layout.cols, back.ndim - 2)
    return _everywhere(back, layout.rows, layout)


def times(w: jax.Array, A: jax.Array, B: jax.Array | None = None, *, layout: Layout) -> jax.Array:
    """A block of W A B^T, or of W A for A ``[..., M, M]``, where w is one of W."""
    if B is not None and A.shape[-1] < w.shape[-1]:
        product = _few_columns(w, A, layout)
        return jnp.einsum("...nk,...mk->...nm", product, _own_rows(B, w, layout), precision=HIGHEST)
    rows = _whole_rows(w, layout)
    if B is None:
        product = jnp.matmul(rows, A, precision=HIGHEST)
    elif rows.shape[-2] < rows.shape[-1]:
        product = jnp.matmul(rows, A, precision=HIGHEST)
        product = jnp.einsum("...nk,...mk->...nm", product, B, precision=HIGHEST)
    else:
        middle = jnp.einsum("...mk,...lk->...ml", A, B, precision=HIGHEST)
        product = jnp.matmul(rows, middle, precision=HIGHEST)
    if not layout.cols:
        return product
    product = jax.lax.all_to_all(
        product, layout.cols, product.ndim - 1, product.ndim - 2, tiled=True
    )
    return product[..., : w.shape[-2], :]


def cut(w: jax.Array, rows: jax.Array, cols: jax.Array, *, layout: Layout) -> jax.Array:
    """The entries ``[..., K, R, C]`` of W at rows ``[..., K, R]`` and columns ``[..., K, C]``."""
    part = jnp.vectorize(
        lambda w, rows, cols: w.at[rows[:, None], cols[None]].get(mode="fill", fill_value=0),
        signature="(n,m),(r),(c)->(r,c)",
    )(w[..., None, :, :], *_places(w, rows, cols, layout))
    return _everywhere(part, layout.rows + layout.cols, layout)


def paste(
    w: jax.Array, entries: jax.Array, rows: jax.Array, cols: jax.Array, *, layout: Layout
) -> jax.Array:
    """A block of the matrix like W with those entries, added up, and zeros elsewhere."""
    rows, cols = _places(w, rows, cols, layout)
    return jnp.vectorize(
        lambda w, entries, rows, cols: (
            jnp.zeros_like(w).at[rows[:, :, None], cols[:, None, :]].add(entries, mode="drop")
        ),
        signature="(n,m),(k,r,c),(k,r),(k,c)->(n,m)",
    )(w, entries, rows, cols)


def _places(
    w: jax.Array, rows: jax.Array, cols: jax.Array, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Places of the whole matrix as those of a block, past its end where they are not in it."""

    def own(places: jax.Array, names: Names, size: int) -> jax.Array:
        if names:
            places = places - jax.lax.axis_index(names) * size
        # Below zero would count from the end.
        return jnp.where(places < 0, size, places)

    return own(rows, layout.rows, w.shape[-2]), own(cols, layout.cols, w.shape[-1])


def _whole_rows(w: jax.Array, layout: Layout) -> jax.Array:
    """Exchanges a block's part of each row for all of some rows, with zero rows where none is."""
    if not layout.cols:
        return w
    num_devices = jax.lax.axis_size(layout.cols)
    padding = [(0, 0)] * w.ndim
    padding[-2] = (0, -w.shape[-2] % num_devices)
    return jax.lax.all_to_all(jnp.pad(w, padding), layout.cols, w.ndim - 2, w.ndim - 1, tiled=True)


def _few_columns(w: jax.Array, V: jax.Array, layout: Layout) -> jax.Array:
    """A block's rows of W V, of columns so few that summing them is cheaper than moving W."""
    return jax.lax.psum(jnp.matmul(w, _own_rows(V, w, layout), precision=HIGHEST), layout.cols)


def _own_rows(V: jax.Array, w: jax.Array, layout: Layout) -> jax.Array:
    """The rows of V that meet a block's columns."""
    if not layout.cols:
        return V
    size = w.shape[-1]
    return jax.lax.dynamic_slice_in_dim(V, jax.lax.axis_index(layout.cols) * size, size, -2)


def _everywhere(part: jax.Array, names: Names, layout: Layout) -> jax.Array:
    """The sum of the parts of each matrix over some mesh axes, for all matrices."""
    total = jax.lax.psum(part, names)
    for axis, cut in enumerate(layout.batch):
        total = _gathered(total, cut, axis)
    return total


def _gathered(part: jax.Array, names: Names, axis: int) -> jax.Array:
    return jax.lax.all_gather(part, names, axis=axis, tiled=True) if names else part
