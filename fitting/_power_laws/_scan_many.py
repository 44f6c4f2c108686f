"""The fits to simulated spectra, row by row, and the tail that they are simulated from."""

import math

import numba
import numpy as np

from ._scan import MIN_SLOPE as MIN_SLOPE
from ._scan import Floats, Integers, distinct, fit_from, ks_distance, scan, slopes


@numba.njit(cache=True, nogil=True)
def longest_tail(
    sorted_logs: Floats,
    start: int,
    log_xmax: float,
    min_tail: int,
    two_sided: bool,
    min_slope: float,
    level: float,
    log_low: float,
) -> tuple[int, float]:
    """The longest tail with distance sqrt(size) <= level: (rank, slope); (start, NaN) for none.

    Only tails that begin before ``start`` and not below ``log_low`` are looked at.
    """
    values, counts = distinct(sorted_logs)
    all_slopes = slopes(values, counts, log_xmax)
    n = sorted_logs.size
    hint = -1
    for i in range(values.size - 2):
        if counts[i] >= start:
            break
        if values[i] < log_low or n - counts[i] < min_tail or all_slopes[i] < min_slope:
            continue
        bound = level / math.sqrt(n - counts[i])
        distance, hint = ks_distance(
            values, counts, i, values[i], all_slopes[i], log_xmax, two_sided, bound, hint
        )
        if distance <= bound:
            return counts[i], all_slopes[i]
    return start, math.nan


@numba.njit(cache=True, nogil=True)
def scan_rows(
    sorted_rows: Floats,
    log_xmax: float,
    min_tail: int,
    two_sided: bool,
    min_slope: float,
    log_low: float,
    log_high: float,
) -> tuple[Integers, Floats, Floats]:
    """``scan`` of each row: the ranks of xmin, the slopes and the distances, or -1, NaN and NaN."""
    size = sorted_rows.shape[0]
    starts = np.empty(size, np.int64)
    row_slopes, distances = np.empty(size), np.empty(size)
    for row in range(size):
        starts[row], row_slopes[row], distances[row] = scan(
            sorted_rows[row], log_xmax, min_tail, two_sided, min_slope, log_low, log_high
        )
    return starts, row_slopes, distances


@numba.njit(cache=True, nogil=True)
def fit_rows_from(
    sorted_rows: Floats, log_xmin: float, log_xmax: float, two_sided: bool
) -> tuple[Integers, Floats, Floats]:
    """``fit_from`` of each row: the ranks of xmin, the slopes and distances, NaN for no tail."""
    size = sorted_rows.shape[0]
    starts = np.empty(size, np.int64)
    row_slopes, distances = np.empty(size), np.empty(size)
    for row in range(size):
        starts[row] = np.searchsorted(sorted_rows[row], log_xmin)
        row_slopes[row], distances[row] = fit_from(
            sorted_rows[row], starts[row], log_xmin, log_xmax, two_sided
        )
    return starts, row_slopes, distances
