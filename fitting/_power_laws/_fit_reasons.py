"""Why a power-law fit is not valid, in words."""

import math

import numpy as np
from numpy.typing import NDArray

# With fewer positive eigenvalues, or fewer of them in the tail, a fit says nothing.
MIN_EIGENVALUES = 10


def is_constant(positive: NDArray[np.float64]) -> bool:
    """Whether sorted positive eigenvalues are one value but for rounding."""
    # an orthogonal matrix in float32 has its singular values within 1e-6 of each other
    return bool(positive[-1] - positive[0] <= 1e-6 * positive[-1])


def why_no_slope(
    positive: NDArray[np.float64],
    xmin: float | None,
    xmin_range: tuple[float | None, float | None] = (None, None),
) -> str:
    """The reason where the likelihood has no maximum."""
    if positive.size == 0:
        return "all eigenvalues are zero"
    if is_constant(positive):
        return f"constant spectrum: all {positive.size} positive eigenvalues are equal"
    if xmin is not None:
        return "all eigenvalues from xmin on are equal to it"
    if xmin_range != (None, None):
        return f"no eigenvalue in the range of xmin, {xmin_range}, begins a tail"
    return "too few distinct eigenvalues to search xmin among (at least 3, and min_tail of them)"


def why_too_little(num_positive: int, num_tail: int, slope: float) -> str:
    """The reason where there is a fit that says nothing, or an empty string."""
    if num_positive < MIN_EIGENVALUES:
        return f"{num_positive} positive eigenvalues; a fit needs {MIN_EIGENVALUES}"
    if num_tail < MIN_EIGENVALUES:
        return f"{num_tail} eigenvalues in the tail; a fit needs {MIN_EIGENVALUES}"
    # The largest of n draws lies at about n^(1/slope) times xmin.
    if slope > math.log2(num_tail):
        return (
            f"alpha {1 + slope:.3g} is beyond what {num_tail} eigenvalues can tell: such a tail "
            "spans less than a factor of two"
        )
    return ""
