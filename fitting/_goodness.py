"""What a fit is worth: its p-value and the standard error of alpha, by simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._power_law import PowerLawFit, log_spectrum, tail_of

BLOCK = 1 << 18
"""Values simulated at a time: small enough to stay in cache, large enough to forget Python."""


def goodness_of_fit(
    eigenvalues: ArrayLike, fit: PowerLawFit, *, num_bootstrap: int = 2500, key: int = 0
) -> float:
    """Probability that a true power law fits as badly as this one.

    p = #{D* >= D} / num_bootstrap, D the fit's `ks_distance` and D* that of a spectrum simulated
    from the fit: each of its eigenvalues comes from the power law with probability
    num_tail / num_positive and is otherwise drawn from those below xmin. Each is fitted as the
    spectrum was, its own search for xmin included. Clauset, Shalizi and Newman rule the power law
    out at p <= 0.1. It says nothing about other distributions: see `compare_distributions`.

    Args:
        eigenvalues: `[M]`, what `fit` was fitted to.
        fit: From `fit_power_law`.
        num_bootstrap: Number of simulated spectra; p is known to about 0.5 / sqrt(num_bootstrap).
        key: Seed. The same key gives the same p.

    Returns:
        p in [0, 1], uniform where the tail is a power law; 0 where there is no tail at all.

    Raises:
        ValueError: If the fit was made from other eigenvalues or num_bootstrap is not positive.

    Example:
        >>> import numpy as np
        >>> import fitting
        >>> noise = np.linalg.svd(np.random.default_rng(0).normal(size=(400, 200)))[1] ** 2
        >>> fit = fitting.fit_power_law(noise, xmin=np.median(noise))
        >>> fitting.goodness_of_fit(noise, fit, num_bootstrap=200)
        0.0

    Source: Clauset, Shalizi and Newman 2009, section 4.1.
    """
    _check_num(num_bootstrap)
    if not _has_tail(tail_of(eigenvalues, fit), fit):
        return 0.0
    exceed = 0
    for _, distances in _refits(eigenvalues, fit, num_bootstrap, key):
        exceed += int(np.count_nonzero(distances >= fit.ks_distance))
    return exceed / num_bootstrap


def bootstrap_sigma(
    eigenvalues: ArrayLike, fit: PowerLawFit, *, num_bootstrap: int = 1000, key: int = 0
) -> float:
    """Standard error of alpha from refitted simulations: the reference for `PowerLawFit.sigma`.

    sigma = q_95(|alpha* - alpha|) / 1.96 over spectra simulated as in `goodness_of_fit`, so that
    alpha +- 1.96 sigma holds 95 % of the refits. The quantile, unlike the standard deviation, is
    not ruled by the odd refit that keeps a handful of eigenvalues.

    Args:
        eigenvalues: `[M]`, what `fit` was fitted to.
        fit: From `fit_power_law`.
        num_bootstrap: Number of simulated spectra.
        key: Seed. The same key gives the same sigma.

    Returns:
        The standard error; infinite where there is no tail.

    Raises:
        ValueError: If the fit was made from other eigenvalues or num_bootstrap is not positive.

    Example:
        >>> import numpy as np
        >>> import fitting
        >>> eigenvalues = np.random.default_rng(0).pareto(1.5, size=500) + 1
        >>> fit = fitting.fit_power_law(eigenvalues)
        >>> bool(0.8 < fitting.bootstrap_sigma(eigenvalues, fit) / fit.sigma < 1.25)
        True

    Source: Clauset, Shalizi and Newman 2009, sections 3.3 and 4.1.
    """
    _check_num(num_bootstrap)
    if not _has_tail(tail_of(eigenvalues, fit), fit):
        return math.inf
    errors = [
        np.abs(slopes - (fit.alpha - 1))
        for slopes, _ in _refits(eigenvalues, fit, num_bootstrap, key)
    ]
    return float(np.nanquantile(np.concatenate(errors), 0.95)) / 1.96


def _check_num(num_bootstrap: int) -> None:
    if num_bootstrap < 1:
        raise ValueError(f"expected num_bootstrap of 1 or more, got {num_bootstrap}")


def _has_tail(tail: NDArray[np.float64], fit: PowerLawFit) -> bool:
    return tail.size > 0 and math.isfinite(fit.sigma)


def _refits(
    eigenvalues: ArrayLike, fit: PowerLawFit, num_bootstrap: int, key: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Slopes and distances of the fits to simulated spectra, block by block."""
    from . import _scan

    spectrum = np.sort(np.asarray(eigenvalues, dtype=np.float64))
    positive = spectrum[spectrum > 0]
    if fit.xmax is not None:
        positive = positive[positive <= fit.xmax]
    logs, log_unit = log_spectrum(positive)
    below = logs[: logs.size - fit.num_tail]
    log_xmin = math.log(fit.xmin) - log_unit
    log_xmax = math.inf if fit.xmax is None else math.log(fit.xmax) - log_unit
    slope = fit.alpha - 1
    generator = np.random.default_rng(key)
    size = max(1, BLOCK // logs.size)
    for start in range(0, num_bootstrap, size):
        shape = (min(size, num_bootstrap - start), logs.size)
        rows = log_xmin + _power_law_logs(generator, shape, slope, log_xmax - log_xmin)
        if below.size:
            from_below = generator.random(shape) >= fit.num_tail / logs.size
            drawn = below[generator.integers(below.size, size=shape)]
            rows = np.where(from_below, drawn, rows)
        rows.sort(axis=1)
        if fit.xmin_given:
            yield _scan.fit_rows_from(rows, log_xmin, log_xmax, fit.ks == "two-sided")
        else:
            yield _scan.scan_rows(
                rows, log_xmax, fit.min_tail, fit.ks == "two-sided", _scan.MIN_SLOPE
            )


def _power_law_logs(
    generator: np.random.Generator, shape: tuple[int, int], slope: float, log_range: float
) -> NDArray[np.float64]:
    """ln(l / xmin) of power-law draws: exponential, cut off at `log_range`."""
    if log_range == math.inf:
        return generator.exponential(1 / slope, size=shape)
    share = -math.expm1(-slope * log_range)
    return np.log1p(-share * generator.random(shape)) / -slope
