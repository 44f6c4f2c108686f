"""Squared singular values of stored matrices, in float64 and in little memory."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._random_matrices import count_zeros
from . import _on_accelerator
from ._band import eigenvalues_by_band

Floats = NDArray[np.float64]

# Matrices that take less than this in float64 are decomposed in one call, with one copy of all,
BATCH_BYTES = 2**25
# unless their short side is this long. Then a Gram matrix and its eigenvalues take a third of the
# time of an svd; below it is about as fast, and exact down to the smallest singular value.
GRAM_SIDE = 384
# Rows that are added to a Gram matrix at a time, in bytes.
BLOCK_BYTES = 2**26
# Eigenvalues of a Gram matrix are off by some epsilons of the largest. Below this share of it they
# may be anything.
RESOLVED = 1e-14
# It grows with the side beyond this one, as their errors do.
RESOLVED_SIDE = 400
# From here on a Gram matrix does not stay in the cache, and is reduced to a band first.
BAND_SIDE = 2048
# Entries between these need no scaling to be squared and summed.
RANGE = (1e-140, 1e140)
# Shorter sides than this are not worth the way to an accelerator and back.
ACCELERATOR_SIDE = 1024
# Tall matrices that take more are reduced block by block, and never stand in memory as float64.
WHOLE_BYTES = 2**28


def squared_singular_values(matrices: np.ndarray, *, accelerator: bool = False) -> Floats:
    """Those of ``[..., rows, cols]``, ``[..., min(rows, cols)]``; NaN where an entry is not finite.

    Args:
        matrices: Of any real type.
        accelerator: Whether large ones may go to the accelerator that JAX has, if any.

    Large matrices: those of a Gram matrix. An absolute error of 1e-15 times the largest is one of
    1e-7 or less relative to all above 1e-8 of it, that is to singular values above 1e-4 of theirs;
    what cannot be told from zero is left to a singular value decomposition, unless it is as small
    as the zeros of weights that were float32 once, apart from all the rest.
    """
    rows, cols = matrices.shape[-2:]
    if min(rows, cols) < GRAM_SIDE and 8 * matrices.size <= BATCH_BYTES:
        W = to_float64(matrices)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(W).all(axis=(-2, -1), keepdims=True))
        # LAPACK raises on NaN, for the whole batch.
        singular_values = np.linalg.svd(np.where(finite, W, 0.0), compute_uv=False)
        return squares(np.where(finite[..., 0], singular_values, np.nan))
    flat = matrices.reshape(-1, rows, cols) if matrices.ndim > 2 else matrices[None]
    values = np.array([_large(matrix, accelerator=accelerator) for matrix in flat])
    return values.reshape(*matrices.shape[:-2], -1)


def bytes_held(shape: tuple[int, int], num_matrices: int) -> int:
    """About the memory that they take beside the weights, of so many matrices of a shape."""
    size, short = shape[0] * shape[1], min(shape)
    if short < GRAM_SIDE and 8 * size * num_matrices <= BATCH_BYTES:
        return 2 * 8 * size * num_matrices
    return 2 * 8 * short**2 + min(8 * size, BLOCK_BYTES)


def _large(matrix: np.ndarray, *, accelerator: bool) -> Floats:
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    scale = _scale(tall)
    if scale == 0:
        return np.zeros(tall.shape[1])
    num_rows = max(BLOCK_BYTES // (8 * tall.shape[1]), 1)
    blocks = (tall[start : start + num_rows] for start in range(0, len(tall), num_rows))
    if accelerator and tall.shape[1] >= ACCELERATOR_SIDE and _on_accelerator.has_accelerator():
        found = _on_accelerator.gram_eigenvalues(blocks, scale)
    else:
        found = _gram_eigenvalues(blocks, scale, tall.shape[1])
    if found is None:
        return np.full(tall.shape[1], np.nan)
    values = np.maximum(found, 0.0)
    if not _is_resolved(values, tall.shape[0]):
        return squares(_singular_values(tall))
    with np.errstate(over="ignore"):
        return values[::-1] * scale * scale


def _scale(tall: np.ndarray) -> float:
    """A power of two near the largest entry where squares could leave float64; 0 for zeros."""
    if tall.dtype.itemsize < 8:
        return float(tall.any())
    largest = max(abs(float(tall.max())), abs(float(tall.min())))
    if largest == 0 or RANGE[0] < largest < RANGE[1] or not np.isfinite(largest):
        return float(largest != 0)
    return math.ldexp(1.0, max(math.frexp(largest)[1], -1021))


def _gram_eigenvalues(blocks: Iterable[np.ndarray], scale: float, num_cols: int) -> Floats | None:
    """Ascending, of the sum of block^T block / scale^2; None where an entry is not finite."""
    import scipy.linalg

    gram = np.zeros((num_cols, num_cols))
    for block in map(to_float64, blocks):
        if scale != 1:
            block /= scale
        # NumPy computes one triangle of it, and unlike SciPy's dsyrk lets other threads go on.
        gram += block.T @ block
    # An entry that is not finite makes the square of its column's norm so.
    if not np.isfinite(gram.diagonal()).all():
        return None
    if num_cols >= BAND_SIDE:
        return eigenvalues_by_band(gram)
    values: Floats = scipy.linalg.eigh(
        gram.T, eigvals_only=True, lower=False, overwrite_a=True, check_finite=False
    )
    return values


def _is_resolved(ascending: Floats, long: int) -> bool:
    """Whether a Gram matrix tells all that is asked of the spectrum, its rank among it."""
    least = RESOLVED * max(1.0, ascending.size / RESOLVED_SIDE) * ascending[-1]
    num_unresolved = int(np.searchsorted(ascending, least))
    # A zero of a Gram matrix may be none: only what a gap sets apart is.
    at_least = np.maximum(ascending, least)
    return num_unresolved == 0 or count_zeros(at_least, long) >= num_unresolved


def _singular_values(tall: np.ndarray) -> Floats:
    """Of a matrix of finite entries, in little more memory than one copy of it in float64."""
    import scipy.linalg

    if 8 * tall.size > WHOLE_BYTES and tall.shape[0] >= 4 * tall.shape[1]:
        tall = _triangle(tall)
    # In LAPACK's own order, so that it may work in place.
    W = to_float64(tall, order="F")
    return scipy.linalg.svdvals(W, overwrite_a=True, check_finite=False)


def _triangle(tall: np.ndarray) -> Floats:
    """R of the QR decomposition, a block of rows after the other; it has the singular values."""
    num_rows = 2 * tall.shape[1]
    R = np.empty((0, tall.shape[1]))
    for start in range(0, len(tall), num_rows):
        block = np.concatenate([R, to_float64(tall[start : start + num_rows])])
        R = np.asarray(np.linalg.qr(block, mode="r"))
    return R


def to_float64(matrix: np.ndarray, *, order: Literal["C", "F"] = "C") -> Floats:
    """A copy in float64, in row-major order unless another is asked for."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is one like any other
        return matrix.astype(np.float64, order=order)


def squares(singular_values: Floats) -> Floats:
    """Eigenvalues, infinite where they leave float64."""
    with np.errstate(over="ignore"):
        return singular_values**2
