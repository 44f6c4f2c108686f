"""What a fit asks of xmin, xmax and min_tail, and of data that have another law."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._fit_reasons import MIN_EIGENVALUES

Bounds = tuple[float | None, float | None]

# From here on counts are as good as continuous.
SMALL_COUNT = 10
COUNTS = (
    "eigenvalues are whole numbers, many of them equal; expected values of a continuous law: the "
    "exponent of counts is that of a discrete one, powerlaw.Fit(values, discrete=True)"
)


def log_range_of(bounds: Bounds, log_unit: float) -> tuple[float, float]:
    """The logs of the bounds of xmin, in the unit of the logs of the eigenvalues."""
    low, high = bounds
    # An eigenvalue that is a bound must not fall out of it by the rounding of two logs.
    slack = 1e-12
    return (
        -math.inf if low is None else math.log(low) - log_unit - slack,
        math.inf if high is None else math.log(high) - log_unit + slack,
    )


def checked_range(bounds: Sequence[float | None], positive: NDArray[np.float64]) -> Bounds:
    came = f"xmin is {tuple(bounds)}"
    if len(bounds) != 2 or not all(
        bound is None or (math.isfinite(bound) and bound > 0) for bound in bounds
    ):
        raise ValueError(f"{came}; expected (low, high), positive and finite, None for no bound")
    low, high = (None if bound is None else float(bound) for bound in bounds)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{came}; expected low below high")
    first = 0 if low is None else np.searchsorted(positive, low)
    end = positive.size if high is None else np.searchsorted(positive, high, side="right")
    if positive.size and end <= first:
        raise ValueError(
            f"{came}; expected a range that holds one of the positive eigenvalues, "
            f"{positive[0]:.6g} to {positive[-1]:.6g}"
        )
    return low, high


def is_counts(positive: NDArray[np.float64]) -> bool:
    """Whether sorted values are small whole numbers, of which a tenth and more equal another."""
    if positive.size < MIN_EIGENVALUES or not 1 <= positive[0] < SMALL_COUNT:
        return False
    if positive[0] != int(positive[0]) or np.any(positive != np.floor(positive)):
        return False
    num_distinct = 1 + int(np.count_nonzero(np.diff(positive)))
    return MIN_EIGENVALUES <= num_distinct <= 0.9 * positive.size


def cut(
    positive: NDArray[np.float64], xmin: float | None, xmax: float | None, min_tail: int
) -> NDArray[np.float64]:
    """The eigenvalues up to xmax; an error where the settings leave none to fit."""
    if min_tail < 2:
        raise ValueError(f"min_tail is {min_tail}; expected 2 or more")
    for name, bound in (("xmin", xmin), ("xmax", xmax)):
        if bound is not None and not (math.isfinite(bound) and bound > 0):
            raise ValueError(
                f"{name} is {bound}; expected a positive, finite number; leave it out for none"
            )
    if xmin is not None and xmax is not None and xmax <= xmin:
        raise ValueError(f"xmax is {xmax:.6g}; expected more than xmin, {xmin:.6g}")
    if positive.size == 0:
        return positive
    if xmax is not None and xmax < positive[0]:
        raise ValueError(
            f"xmax is {xmax:.6g}; expected at least the smallest positive eigenvalue, "
            f"{positive[0]:.6g}"
        )
    if xmax is not None:
        positive = positive[: np.searchsorted(positive, xmax, side="right")]
    if xmin is not None and xmin > positive[-1]:
        upto = "" if xmax is None else f" up to xmax={xmax:.6g}"
        raise ValueError(
            f"xmin is {xmin:.6g}; expected at most the largest eigenvalue{upto}, {positive[-1]:.6g}"
        )
    return positive
