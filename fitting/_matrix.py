"""What is asked of a matrix and of its shape, and what chance makes of a matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """A float64 matrix with finite entries, or a ValueError that says what came instead."""
    if np.iscomplexobj(matrix):
        raise ValueError("expected a real matrix, got a complex one")
    entries = np.asarray(matrix, dtype=np.float64)
    if entries.ndim != 2 or 0 in entries.shape:
        raise ValueError(
            f"expected a matrix of shape [rows, cols], got an array of shape {entries.shape}"
        )
    if not np.all(np.isfinite(entries)):
        raise ValueError(
            f"expected finite entries, got {np.count_nonzero(~np.isfinite(entries))} that are NaN "
            "or infinite; look for NaN in the weights"
        )
    return entries


def check_shape(values: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int]:
    """(N, M) of the matrix, or a ValueError if it cannot have these eigenvalues."""
    long, short = check_sides(shape)
    if values.size != short:
        raise ValueError(
            f"a matrix of shape {tuple(shape)} has {short} eigenvalues, got {values.size}; "
            "pass one squared singular value for each of its short side, zeros included"
        )
    return long, short


def check_sides(shape: tuple[int, int]) -> tuple[int, int]:
    """(N, M) of a shape in either order, or a ValueError if it is none of a matrix."""
    if np.shape(shape) != (2,) or not all(
        isinstance(side, int | np.integer) and side >= 1 for side in shape
    ):
        raise ValueError(f"expected shape as two positive sides of a matrix, got {shape}")
    return int(max(shape)), int(min(shape))


def shuffled_null(matrix: ArrayLike, *, key: int = 0) -> NDArray[np.float64]:
    """Eigenvalues of the matrix after a shuffle of its centred entries: what chance would give.

    The entries keep their distribution and lose every relation to their row and column. The mean is
    taken out first, as a shuffle keeps it and it is a spike of size N M mean^2 of its own.

    Args:
        matrix: Weight matrix, shape [rows, cols].
        key: Seed of the shuffle.

    Returns:
        Squared singular values, descending, shape [min(rows, cols)]; an input for
        ``fit_marchenko_pastur`` with the same shape. Costs one shuffle and one decomposition.

    Raises:
        ValueError: If the matrix is not two-dimensional or has NaN or infinite entries.

    Example:
        >>> import numpy as np, fitting
        >>> ones_and_twos = np.repeat([[1.0, 2.0]], 100, axis=0).repeat(20, axis=1)
        >>> fitting.shuffled_null(ones_and_twos, key=1)[0] < 0.2 * (ones_and_twos**2).sum()
        np.True_

    References:
        C. Martin and M. Mahoney, 2021, sigma_shuf.
    """
    entries = check_matrix(matrix)
    shuffled = np.random.default_rng(key).permutation((entries - entries.mean()).ravel())
    return np.linalg.svd(shuffled.reshape(entries.shape), compute_uv=False) ** 2
