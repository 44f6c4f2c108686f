"""Logarithms of eigenvalues that keep nearly equal values apart."""

import math

import numpy as np
from numpy.typing import NDArray


def log_spectrum(positive: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Logs of the sorted positive eigenvalues over the largest, and the log of the largest."""
    if positive.size == 0:
        return positive, 0.0
    ratios = positive / positive[-1]
    # Dividing first keeps nearly equal values apart; it is not possible where it underflows.
    if ratios[0] > np.finfo(np.float64).tiny:
        return np.log(ratios), math.log(positive[-1])
    return np.log(positive) - math.log(positive[-1]), math.log(positive[-1])
