"""The search for xmin: every candidate, exactly, in compiled code."""

import math

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# A candidate whose slope (alpha - 1) is below this is passed over, as powerlaw does with
# parameter_ranges={"alpha": [1.01, None]}: it drops fits that end within 0.01 of a bound.
MIN_SLOPE = 0.02


@numba.njit(cache=True, nogil=True)
def truncated_slope(mean_excess: float, log_range: float) -> float:
    """Maximum-likelihood alpha - 1 of a power law on [xmin, xmax]; ``log_range`` may be infinite.

    Solves 1/u - 1/(e^u - 1) = mean_excess / log_range for u = (alpha - 1) log_range. The left side
    falls and is convex for u > 0, so Newton from the left of the root never overshoots.
    """
    if mean_excess <= 0.0:
        return math.inf
    if log_range == math.inf:
        return 1.0 / mean_excess
    ratio = mean_excess / log_range
    if ratio > 0.5:  # a rising density: the mirror image of a falling one
        return -truncated_slope(log_range - mean_excess, log_range)
    u = max(12.0 * (0.5 - ratio), 1e-9)
    for _ in range(200):
        if u < 1e-3:  # the two poles cancel; this is the start of their series
            value, derivative = 0.5 - u / 12.0 - ratio, -1.0 / 12.0
        elif u < 30.0:
            e = math.expm1(u)
            value, derivative = 1.0 / u - 1.0 / e - ratio, -1.0 / (u * u) + (e + 1.0) / (e * e)
        else:
            value, derivative = 1.0 / u - ratio, -1.0 / (u * u)
        step = value / derivative
        u = max(u - step, 1e-9)
        if abs(step) <= 1e-14 * u:
            break
    return u / log_range


@numba.njit(cache=True, nogil=True, inline="always")
def _deviation(
    log_value: float,
    below: float,
    above: float,
    log_xmin: float,
    slope: float,
    scale: float,
    two_sided: bool,
) -> float:
    """|model cdf - empirical cdf| at one distinct value; the empirical cdf is its left limit."""
    model = -math.expm1(-slope * (log_value - log_xmin)) * scale
    deviation = abs(model - below)
    if two_sided:
        deviation = max(deviation, abs(above - model))
    return deviation


@numba.njit(cache=True, nogil=True)
def ks_distance(
    values: Floats,
    counts: Integers,
    first: int,
    log_xmin: float,
    slope: float,
    log_xmax: float,
    two_sided: bool,
    bound: float,
    hint: int,
) -> tuple[float, int]:
    """Largest deviation over the distinct log values from ``first`` on, and where it is.

    Stops as soon as a deviation passes ``bound``. ``hint`` is looked at first: the worst value of
    one candidate is nearly always fatal to the next.
    """
    m = values.size
    total = counts[m]
    n = 1.0 / (total - counts[first])
    scale = 1.0
    if log_xmax != math.inf:
        scale = -1.0 / math.expm1(-slope * (log_xmax - log_xmin))
    worst, where = 0.0, first
    if hint >= first:
        worst = _deviation(
            values[hint],
            (counts[hint] - counts[first]) * n,
            (counts[hint + 1] - counts[first]) * n,
            log_xmin,
            slope,
            scale,
            two_sided,
        )
        where = hint
        if worst > bound:
            return worst, where
    # Far apart first, then between: a bad fit shows at a coarse look.
    stride = 1
    while stride < m - first:
        stride *= 2
    j = first
    step = stride
    while stride >= 1:
        while j < m:
            deviation = _deviation(
                values[j],
                (counts[j] - counts[first]) * n,
                (counts[j + 1] - counts[first]) * n,
                log_xmin,
                slope,
                scale,
                two_sided,
            )
            if deviation > worst:
                worst, where = deviation, j
                if worst > bound:
                    return worst, where
            j += step
        step = stride
        stride //= 2
        j = first + stride
    return worst, where


@numba.njit(cache=True, nogil=True)
def distinct(sorted_logs: Floats) -> tuple[Floats, Integers]:
    """Distinct values, and how many of the sorted values lie below each (n is appended)."""
    n = sorted_logs.size
    values = np.empty(n)
    counts = np.empty(n + 1, np.int64)
    m = 0
    for i in range(n):
        if i == 0 or sorted_logs[i] != sorted_logs[i - 1]:
            values[m] = sorted_logs[i]
            counts[m] = i
            m += 1
    counts[m] = n
    return values[:m], counts[: m + 1]


@numba.njit(cache=True, nogil=True)
def slopes(values: Floats, counts: Integers, log_xmax: float) -> Floats:
    """Maximum-likelihood alpha - 1 with each distinct value as xmin."""
    m = values.size
    n = counts[m]
    result = np.empty(m)
    excess = 0.0
    result[m - 1] = math.inf
    for i in range(m - 2, -1, -1):
        # adding gaps, each non-negative, keeps full precision where values nearly coincide
        excess += (n - counts[i + 1]) * (values[i + 1] - values[i])
        result[i] = truncated_slope(excess / (n - counts[i]), log_xmax - values[i])
    return result


@numba.njit(cache=True, nogil=True)
def scan(
    sorted_logs: Floats,
    log_xmax: float,
    min_tail: int,
    two_sided: bool,
    min_slope: float,
    log_low: float = -math.inf,
    log_high: float = math.inf,
) -> tuple[int, float, float]:
    """The candidate with the smallest KS distance: (rank of xmin, alpha - 1, distance).

    Candidates are all distinct values but the last two with at least ``min_tail`` values from there
    on and a slope of ``min_slope`` or more, from ``log_low`` to ``log_high``. Rank -1 when there is
    none.
    """
    values, counts = distinct(sorted_logs)
    m = values.size
    n = sorted_logs.size
    best, best_distance = -1, math.inf
    if m < 3:
        return best, math.nan, math.nan
    all_slopes = slopes(values, counts, log_xmax)
    # Far apart first, then between, so that a bound that rejects nearly all the others at one look
    # is found early; that look goes to where the neighbour's deviation was too large.
    worst = np.full(m, -1, np.int64)
    stride = 1
    while stride < m:
        stride *= 2
    step = stride
    i = 0
    while stride >= 1:
        while i < m - 2:
            within = log_low <= values[i] <= log_high
            if within and n - counts[i] >= min_tail and all_slopes[i] >= min_slope:
                hint = worst[max(i - stride, 0)]
                distance, worst[i] = ks_distance(
                    values,
                    counts,
                    i,
                    values[i],
                    all_slopes[i],
                    log_xmax,
                    two_sided,
                    best_distance,
                    hint,
                )
                if distance < best_distance or (distance == best_distance and i < best):
                    best, best_distance = i, distance
            i += step
        step = stride
        stride //= 2
        i = stride
    if best < 0:
        return best, math.nan, math.nan
    return counts[best], all_slopes[best], best_distance


@numba.njit(cache=True, nogil=True)
def fit_from(
    sorted_logs: Floats, start: int, log_xmin: float, log_xmax: float, two_sided: bool
) -> tuple[float, float]:
    """The fit at a given xmin, ``start`` its rank: (alpha - 1, distance)."""
    tail = sorted_logs[start:]
    if tail.size == 0:
        return math.nan, math.nan
    excess = 0.0
    for value in tail:
        excess += value - log_xmin
    slope = truncated_slope(excess / tail.size, log_xmax - log_xmin)
    if slope == math.inf:
        return slope, math.nan
    values, counts = distinct(tail)
    distance, _ = ks_distance(values, counts, 0, log_xmin, slope, log_xmax, two_sided, math.inf, -1)
    return slope, distance
