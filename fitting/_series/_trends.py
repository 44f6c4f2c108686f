"""What changes over a run beyond the scatter from one checkpoint to the next."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

QUANTITIES = ("alpha", "stable_rank", "spectral_norm", "matrix_entropy")
# Shares of the spectrum, of which alpha is kept step by step with a tail of that size.
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
MIN_TAIL = 10
MIN_STEPS = 4
COLUMNS = (
    "name", "index", "quantity", "num_steps", "first", "last", "change", "error", "p_value",
    "q_value", "tail_share",
)  # fmt: skip

Array = NDArray[np.float64]


class Trend(NamedTuple):
    """A straight line through values in their order, from its first to its last point."""

    change: float
    error: float
    p_value: float


def fit_trend(values: ArrayLike) -> Trend:
    r"""The change along a straight line of least squares, and whether chance would make it.

    The scatter is that of the differences between neighbours, :math:`s^2 = \frac{1}{2(n-2)}
    \sum_t (\Delta_t - \bar\Delta)^2`, which a curved course leaves small, and p is from Student's
    t with 2/3 (n - 2) degrees of freedom: what differences tell of a variance.

    Args:
        values: At least 4, in the order of their steps; steps count as evenly spaced.
    """
    y = np.asarray(values, dtype=np.float64)
    n = y.size
    x = np.arange(n) - (n - 1) / 2
    slope = float(x @ y / (x @ x))
    differences = np.diff(y)
    scatter = math.sqrt(np.sum((differences - differences.mean()) ** 2) / (2 * (n - 2)))
    change, error = slope * (n - 1), scatter / math.sqrt(x @ x) * (n - 1)
    # Differences that are rounding alone are none.
    if abs(change) <= 1e-12 * np.abs(y).max():
        return Trend(0.0, error, 1.0)
    if error == 0:
        return Trend(change, 0.0, 0.0)
    return Trend(change, error, float(2 * student.sf(abs(change) / error, 2 * (n - 2) / 3)))


def tail_alphas(eigenvalues: Array) -> list[float]:
    """Alpha of about the largest eigenvalues, for each of the SHARES; NaN where they are too few.

    The mean of Hill's estimate over tails a quarter shorter to a quarter longer: a single one moves
    by (alpha - 1)^2 times the relative change of the one eigenvalue that is its xmin.
    """
    positive = eigenvalues[eigenvalues > 0]
    if not np.isfinite(positive).all() or positive.size < MIN_TAIL:
        return [math.nan] * len(SHARES)
    logs, sizes = np.log(positive), np.arange(1, positive.size + 1)
    excess = np.cumsum(logs) - sizes * logs
    alphas = []
    for share in SHARES:
        size = max(MIN_TAIL, round(share * eigenvalues.size))
        near = slice(round(0.75 * size) - 1, round(1.25 * size))
        known = size <= positive.size and excess[near].min() > 0
        alphas.append(float(np.mean(1 + sizes[near] / excess[near])) if known else math.nan)
    return alphas


def tail_share(sizes: Array) -> float:
    """Of the SHARES the nearest to the third quartile of the tails of the fits.

    The longer the tail, the less its alpha scatters; a quarter of the fits bears one as long.
    """
    longest = float(np.quantile(sizes, 0.75))
    return min(SHARES, key=lambda share: abs(math.log(share / longest)))


def trends(layers: pd.DataFrame, tails: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """A row for each matrix and quantity; see :meth:`Series.trends`."""
    rows = []
    of_tails = dict(iter(tails.groupby(["name", "index"], sort=False)))
    for key, table in layers.groupby(["name", "index"], sort=False):
        for quantity in quantities:
            values, share = table[quantity], math.nan
            if quantity == "alpha":
                valid = table["valid"].to_numpy(bool)
                sizes = (table["num_tail"] / table["num_eigenvalues"])[valid]
                if valid.any():
                    share = tail_share(sizes.to_numpy(float))
                    values = of_tails[key][share].where(valid)
            known = values.dropna().to_numpy(np.float64)
            row = dict(zip(("name", "index"), key, strict=True)) | {"quantity": quantity}
            row |= {"num_steps": known.size, "tail_share": share}
            if known.size:
                row |= {"first": known[0], "last": known[-1]}
            if known.size >= MIN_STEPS:
                row |= fit_trend(known)._asdict()
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    for _, of_quantity in table.groupby("quantity"):
        table.loc[of_quantity.index, "q_value"] = adjusted(of_quantity["p_value"].to_numpy(float))
    return table


def adjusted(p_values: Array) -> Array:
    """Benjamini and Hochberg's: the share of false alarms among all with a p no larger."""
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known])]
    scaled = p_values[order] * order.size / np.arange(1, order.size + 1)
    found = np.full(p_values.size, math.nan)
    found[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return found
