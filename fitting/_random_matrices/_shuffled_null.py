"""A matrix without the relations between its entries."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_matrix


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
