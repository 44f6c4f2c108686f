"""Correlation traps: entries so large that their matrix has outliers whatever their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_matrix
from ._bulk_fit import fit_marchenko_pastur
from ._shuffled_null import shuffled_null

# Entries that may stand apart, and those below them that tell how the tail falls off.
MAX_TRAPS, NUM_TAIL = 10, 200


@dataclass(frozen=True, eq=False)
class Traps:
    """Outliers that a matrix keeps when its entries are shuffled.

    Attributes:
        num_traps: Eigenvalues of the shuffled matrix beyond the edge, as many as there are entries
            that stand apart with p of 0.001 or less.
        p_value: The chance that the largest entries of a smooth tail stand apart as far.
        eigenvalues: Those of the shuffled matrix beyond the edge, descending, whether or not their
            entries stand apart.
        edge: What the noise of the entries stays below 999 times in 1,000.
    """

    num_traps: int
    p_value: float
    eigenvalues: NDArray[np.float64]
    edge: float


def find_traps(matrix: ArrayLike, *, key: int = 0) -> Traps:
    r"""Looks for the outliers that a few outsized entries make, not any relation between them.

    The entries are centred, as a mean alone is a spike and no trap, and shuffled, which leaves
    nothing but their sizes. What then lies beyond the Marchenko-Pastur edge comes of single large
    entries. Heavy-tailed entries have these by nature, so they are traps only if they stand apart:
    with :math:`e_1 \ge e_2 \ge \dots` the sizes, the spacings :math:`E_j = j \ln(e_j / e_{j+1})` of
    a power-law tail are exponential and alike (Renyi), and p is that of the largest of the first
    ten against the mean of those that follow it, by the F distribution times ten.

    Args:
        matrix: Weight matrix, shape [rows, cols].
        key: Seed of the shuffle.

    Returns:
        ``Traps``. A matrix whose entries are all equal, or of fewer than 50 eigenvalues or 2,000
        entries, has none and p = 1. Costs a shuffle, a sort and one decomposition.

    Raises:
        ValueError: If the matrix is not two-dimensional or has NaN or infinite entries.

    Example:
        >>> import numpy as np, fitting
        >>> W = np.random.default_rng(0).normal(size=(200, 100)) + 3
        >>> fitting.find_traps(W).num_traps
        0
        >>> W[7, 7] = 60
        >>> fitting.find_traps(W).num_traps
        1

    References:
        C. Martin and C. Hinrichs, 2025, SETOL (correlation traps); A. Renyi, 1953 (spacings).
    """
    entries = check_matrix(matrix)
    sizes = np.abs(entries - entries.mean()).ravel()
    if min(entries.shape) < 50 or sizes.size < 2000 or not sizes.any():
        return Traps(0, 1.0, np.empty(0), float("nan"))
    num_apart, p_value = _apart(sizes)
    shuffled = shuffled_null(entries, key=key)
    edge = fit_marchenko_pastur(shuffled, (entries.shape[0], entries.shape[1])).spike_threshold
    beyond = shuffled[shuffled > edge]
    return Traps(min(num_apart, beyond.size), p_value, beyond, edge)


def _apart(sizes: NDArray[np.float64]) -> tuple[int, float]:
    """How many of the largest stand apart from the rest, and the p of the clearest gap."""
    from scipy.stats import f as fisher

    num = MAX_TRAPS + NUM_TAIL + 1
    largest = np.sort(np.partition(sizes, sizes.size - num)[-num:])[::-1]
    if largest[-1] <= 0:
        return 0, 1.0
    spacings = np.arange(1, num) * np.log(largest[:-1] / largest[1:])
    p_values = np.ones(MAX_TRAPS)
    for j in range(MAX_TRAPS):
        mean = spacings[j + 1 : j + 1 + NUM_TAIL].mean()
        if mean > 0:
            p_values[j] = fisher.sf(spacings[j] / mean, 2, 2 * NUM_TAIL)
        elif spacings[j] > 0:
            p_values[j] = 0.0
    p_values = np.minimum(p_values * MAX_TRAPS, 1.0)
    apart = np.flatnonzero(p_values <= 1e-3)
    return int(apart.max() + 1) if apart.size else 0, float(p_values.min())
