"""How far a change lies in the directions of what it changes."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Singular vectors whose overlap is measured.
NUM_VECTORS = 10


def change_beside_base(change: np.ndarray, base: np.ndarray) -> dict[str, float]:
    r"""Size and direction of a change, relative to the matrix that it is of.

    With the largest k = 10 singular vectors of both, :math:`U, V` and :math:`U_0, V_0`,

    .. math:: \frac1{2k} \left(\|U^T U_0\|_F^2 + \|V^T V_0\|_F^2\right),

    1 where they span the same, and by chance :math:`(k/N + k/M)/2`.

    Args:
        change: [rows, cols].
        base: The same shape.

    Returns:
        ``change_share``, the ratio of Frobenius norms, NaN where the base is zero;
        ``change_overlap`` and ``change_overlap_by_chance``, NaN where one of the two is zero.
    """
    found = {"change_share": math.nan, "change_overlap": math.nan}
    k = min(NUM_VECTORS, *change.shape)
    found["change_overlap_by_chance"] = (k / change.shape[0] + k / change.shape[1]) / 2
    change, base = change.astype(np.float64), base.astype(np.float64)
    norms = np.linalg.norm(change), np.linalg.norm(base)
    if not np.isfinite(norms).all() or not norms[1]:
        return found
    found["change_share"] = float(norms[0] / norms[1])
    if norms[0]:
        left, right = _top_vectors(change, k)
        left_base, right_base = _top_vectors(base, k)
        squares = np.sum((left.T @ left_base) ** 2) + np.sum((right.T @ right_base) ** 2)
        found["change_overlap"] = float(squares / (2 * k))
    return found


def _top_vectors(matrix: Floats, k: int) -> tuple[Floats, Floats]:
    """Left and right singular vectors of the k largest singular values, as columns."""
    if 4 * k >= min(matrix.shape):
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        return left[:, :k], right[:k].T
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, _, right = svds(matrix, k=k, v0=start, maxiter=100 * k, tol=1e-6)
    return left, right.T
