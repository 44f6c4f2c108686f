"""Where the logarithms of the largest eigenvalues sum to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import sorted_spectrum
from ._power_law import PowerLawFit


@dataclass(frozen=True)
class TraceLog:
    """The tail whose eigenvalues, in units of the mean of all, have the product 1.

    Attributes:
        num_tail: Eigenvalues in it: the fewest whose logarithms sum to less than 0.
        threshold: The smallest of them, in the units of the eigenvalues.
        sigma: Standard error of ``num_tail``, from resampled spectra; NaN without.
        gap: ``num_tail`` less that of the power law, 0 where both begin at one eigenvalue; NaN
            where no fit was given.
    """

    num_tail: int
    threshold: float
    sigma: float
    gap: float


def trace_log(
    eigenvalues: ArrayLike,
    fit: PowerLawFit | None = None,
    *,
    num_bootstrap: int = 200,
    key: int = 0,
) -> TraceLog:
    r"""Finds the tail of the trace-log condition, :math:`\sum_{i \le k} \ln \lambda_i = 0`.

    The eigenvalues are divided by their mean, and k is the first count at which the sum of the
    logarithms of the k largest falls below 0. The SETOL papers expect the power law of an ideally
    trained layer to begin there. It is a hypothesis: the k of a spectrum depends on its whole
    body, so noise has one too, and a gap says nothing alone.

    Args:
        eigenvalues: ``[M]``, squared singular values in any order, zeros included.
        fit: Of the same eigenvalues, for the gap.
        num_bootstrap: Spectra that are drawn from this one for the error; 0 for none.
        key: Seed of these.

    Returns:
        ``TraceLog``: WeightWatcher 0.7.7's ``detX_num``, and M where the sum never falls below 0,
        as it does where all are equal. Its product of the eigenvalues leaves float64 for long
        tails, which the sum does not.

    Raises:
        ValueError: If eigenvalues are none (see :func:`fit_power_law`), or all are zero.

    Example:
        >>> import numpy as np, fitting
        >>> eigenvalues = (1 - (np.arange(500) + 0.5) / 500) ** (-1 / 1.5)
        >>> fit = fitting.fit_power_law(eigenvalues)
        >>> found = fitting.trace_log(eigenvalues, fit)
        >>> found.num_tail, found.gap
        (287, -213)

    References:
        C. Martin and C. Hinrichs, 2025, SETOL (the effective renormalization group).
    """
    values = sorted_spectrum(eigenvalues)[::-1]
    if values[0] == 0:
        raise ValueError("eigenvalues are all zero; expected one that is not")
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; expected 0 or more")
    num_tail = int(_counts(values[None])[0])
    sigma = math.nan
    if num_bootstrap:
        rng = np.random.default_rng(key)
        draws = rng.choice(values, (num_bootstrap, values.size))
        draws = draws[draws.any(axis=1)]
        sigma = float(np.std(_counts(-np.sort(-draws, axis=1)), ddof=1))
    gap = math.nan if fit is None else num_tail - fit.num_tail
    return TraceLog(num_tail, float(values[num_tail - 1]), sigma, gap)


def _counts(descending: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each row of spectra, how many it takes for the sum to fall below zero."""
    # By the largest first, so that no mean overflows.
    ratios = descending / descending[:, :1]
    with np.errstate(divide="ignore"):
        logs = np.log(ratios) - np.log(ratios.mean(axis=1, keepdims=True))
    # Equal eigenvalues have logarithms that are zero but for rounding.
    below = np.cumsum(logs, axis=1) < -1e-12 * descending.shape[1]
    return np.where(below.any(axis=1), below.argmax(axis=1) + 1, descending.shape[1])
