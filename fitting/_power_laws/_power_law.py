"""The power-law fit of a spectrum's tail, after Clauset, Shalizi and Newman."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import sorted_spectrum
from ._fit_reasons import is_constant, why_no_slope, why_too_little
from ._fit_settings import COUNTS, Bounds, checked_range, cut, is_counts, log_range_of
from ._log_spectrum import log_spectrum

if TYPE_CHECKING:
    import powerlaw

# What the search for xmin adds to the standard error; from benchmarks/calibrate_sigma.py.
SEARCH_FACTOR, SEARCH_CORRECTION = 1.17, 1.0
# Where the likelihood has no maximum: all of the tail is one value, and alpha grows for ever.
NO_TAIL_ALPHA = 100.0


@dataclass(frozen=True)
class PowerLawFit:
    """A power law rho(l) ~ l^-alpha fitted to the eigenvalues from ``xmin`` on.

    Attributes:
        alpha: Exponent of the eigenvalue density.
        xmin: Start of the tail, the eigenvalue that minimizes ``ks_distance`` (or the one asked
            for).
        xmax: Largest eigenvalue let in, where one was given.
        ks_distance: Kolmogorov-Smirnov distance of tail and fit.
        sigma: Standard error of alpha that allows for the search for xmin, 1.17 (1 - 1/num_tail)
            times the classical one: alpha +- 1.96 sigma then covers 94 to 96 % of planted alphas
            from 1.8 to 4 with tails of 50 to 1,000 and five kinds of body below them, where the
            classical one covers 89 to 92 % (benchmarks/calibrate_sigma.py).
        sigma_classical: (alpha - 1) / sqrt(num_tail), as if xmin had been known.
        num_tail: Number of eigenvalues in the tail.
        num_eigenvalues: Number of eigenvalues given, zeros included.
        valid: Whether there was a tail to fit. A fit that is not valid never enters a mean.
        reason: Why the fit is not valid; empty if it is.
        xmin_given: Whether xmin was given instead of being searched for.
        xmin_range: Between what it was searched, (None, None) for no bounds.
        min_tail: Fewest eigenvalues that a tail was allowed to have.
        ks: Which distance was minimized, "one-sided" or "two-sided".
        eigenvalues: What was fitted, sorted, float64.
    """

    alpha: float
    xmin: float
    xmax: float | None
    ks_distance: float
    sigma: float
    sigma_classical: float
    num_tail: int
    num_eigenvalues: int
    valid: bool
    reason: str
    xmin_given: bool = False
    xmin_range: Bounds = (None, None)
    min_tail: int = 2
    ks: Literal["one-sided", "two-sided"] = "one-sided"
    eigenvalues: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), repr=False, compare=False
    )

    def to_powerlaw(self) -> powerlaw.Fit:
        """This fit as a ``powerlaw.Fit``, for its plots and its other distributions.

        It is made at this fit's xmin, so nothing is searched again, and with the parameter range
        that powerlaw needs: its default caps alpha at 3.

        Returns:
            A ``powerlaw.Fit`` with ``xmin``, ``alpha``, ``D`` and ``sigma`` set as its own search
            sets them.

        Raises:
            ValueError: If there is no tail: the likelihood had no maximum.

        Example:
            >>> import numpy as np
            >>> import fitting
            >>> eigenvalues = (1 - (np.arange(500) + 0.5) / 500) ** -0.5
            >>> fit = fitting.fit_power_law(eigenvalues)
            >>> bool(abs(fit.to_powerlaw().power_law.alpha - fit.alpha) < 1e-10)
            True
        """
        if not math.isfinite(self.sigma):
            raise ValueError(f"the fit has no tail ({self.reason}); expected one that has")
        import powerlaw

        result = powerlaw.Fit(
            self.eigenvalues[self.eigenvalues > 0],
            xmin=self.xmin,
            xmax=self.xmax,
            parameter_ranges={"alpha": [1.01, None]},
            verbose=0,
        )
        result.alpha, result.D, result.sigma = self.alpha, self.ks_distance, self.sigma_classical
        return result


def fit_power_law(
    eigenvalues: ArrayLike,
    *,
    xmin: float | tuple[float | None, float | None] | None = None,
    xmax: float | None = None,
    min_tail: int = 2,
    ks: Literal["one-sided", "two-sided"] = "one-sided",
) -> PowerLawFit:
    """Fits rho(l) ~ l^-alpha to the tail of a spectrum, by maximum likelihood.

    alpha(xmin) = 1 + k / sum_i ln(l_i / xmin) over the k eigenvalues from xmin on, and xmin is the
    eigenvalue at which the tail is closest to its power law in the Kolmogorov-Smirnov distance.
    Every distinct eigenvalue but the two largest is tried, exactly: this is the optimum, at any
    alpha, and the one that powerlaw 2.0.0 finds with ``parameter_ranges={"alpha": [1.01, None]}``.

    Args:
        eigenvalues: ``[M]``, squared singular values in any order. Zeros are left out of the fit.
        xmin: Start of the tail, if known; it is then not searched for. With a pair (low, high) the
            search is among the eigenvalues from low to high alone; None is no bound.
        xmax: Cuts off the spectrum, and the fitted law, at this value. Rarely wanted: with xmax at
            the largest eigenvalue pure noise fits like a heavy tail.
        min_tail: Fewest eigenvalues that a tail may have.
        ks: "one-sided" compares with the fraction of the tail below each eigenvalue, as powerlaw
            and WeightWatcher do; "two-sided" also with the fraction up to it, as textbooks do.

    Returns:
        The fit. On a spectrum without a tail (fewer than 10 positive eigenvalues or fewer than 10
        in the tail, all of them equal, alpha so large that a tail of this many spans less than a
        factor of two) it has ``valid=False``, a reason, and values that are defined: where the
        likelihood has no maximum alpha is 100 and ``sigma`` infinite.

    Raises:
        ValueError: If eigenvalues are negative, NaN, infinite, missing or not a vector, xmin is
            above the largest, a range of xmin holds no eigenvalue, or xmax is below xmin or below
            the smallest.

    Warns:
        UserWarning: If the eigenvalues are whole numbers, many of them equal: counts, such as how
            often words occur, follow a discrete law, whose exponent is another.

    Example:
        >>> import numpy as np
        >>> import fitting
        >>> eigenvalues = (1 - (np.arange(500) + 0.5) / 500) ** (-1 / 1.5)
        >>> fit = fitting.fit_power_law(eigenvalues)
        >>> round(fit.alpha, 2), fit.num_tail, fit.valid
        (2.5, 500, True)

    Cost: a sort, and a scan that takes 0.035 ms at 384 eigenvalues on one core
    (``python -m benchmarks.power_law``). The first call of a process loads what numba compiled.

    References:
        Clauset, Shalizi and Newman 2009, "Power-law distributions in empirical data", eq. 3.1
        (alpha), eq. 3.9 (distance), section 3.3 (xmin).
    """
    return fit_tail(eigenvalues, xmin, xmax, min_tail, ks, warn_of_counts=True)


def fit_tail(
    eigenvalues: ArrayLike,
    xmin: float | tuple[float | None, float | None] | None = None,
    xmax: float | None = None,
    min_tail: int = 2,
    ks: Literal["one-sided", "two-sided"] = "one-sided",
    *,
    warn_of_counts: bool = False,
) -> PowerLawFit:
    """The fit; without a warning where the values are known to be those of a matrix."""
    if ks not in ("one-sided", "two-sided"):
        raise ValueError(f"ks is {ks!r}; expected 'one-sided' or 'two-sided'")
    spectrum = sorted_spectrum(eigenvalues)
    positive = spectrum[np.searchsorted(spectrum, 0.0, side="right") :]
    xmin_range: Bounds = (None, None)
    if isinstance(xmin, tuple | list):
        xmin_range, xmin = checked_range(xmin, positive), None
    positive = cut(positive, xmin, xmax, min_tail)
    if warn_of_counts and is_counts(positive):
        warnings.warn(COUNTS, stacklevel=3)

    from . import _scan

    logs, log_unit = log_spectrum(positive)
    log_xmax = math.inf if xmax is None else math.log(xmax) - log_unit
    two_sided = ks == "two-sided"
    reason = ""
    if xmin is not None:
        start = int(np.searchsorted(positive, xmin))
        log_xmin = math.log(xmin) - log_unit
        slope, distance = _scan.fit_from(logs, start, log_xmin, log_xmax, two_sided)
    else:
        options = logs, log_xmax, min_tail, two_sided
        log_range = log_range_of(xmin_range, log_unit)
        start, slope, distance = _scan.scan(*options, _scan.MIN_SLOPE, *log_range)
        if start < 0:
            reason = "no tail with alpha above 1.02: the spectrum hardly falls"
            start, slope, distance = _scan.scan(*options, -math.inf, *log_range)
        log_xmin = logs[max(start, 0)] if logs.size else 0.0
    num_tail = positive.size - start if start >= 0 else 0
    if start < 0 or not math.isfinite(slope) or is_constant(positive):
        reason = why_no_slope(positive, xmin, xmin_range)
        start = max(start, 0)
        num_tail = positive.size - start
        slope, distance, sigma, sigma_classical = NO_TAIL_ALPHA - 1, 1.0, math.inf, math.inf
    else:
        sigma_classical = abs(slope) / math.sqrt(num_tail)
        sigma = _standard_error(slope, log_xmax - log_xmin, num_tail)
        if xmin is None:
            sigma *= SEARCH_FACTOR * (1 - SEARCH_CORRECTION / num_tail)
        reason = why_too_little(positive.size, num_tail, slope) or reason
    if xmin_given := xmin is not None:
        xmin = float(xmin)
    else:
        xmin = float(positive[start]) if positive.size else 0.0
    return PowerLawFit(
        alpha=1.0 + slope,
        xmin=xmin,
        xmax=None if xmax is None else float(xmax),
        ks_distance=distance,
        sigma=sigma,
        sigma_classical=sigma_classical,
        num_tail=num_tail,
        num_eigenvalues=spectrum.size,
        valid=not reason,
        reason=reason,
        xmin_given=xmin_given,
        xmin_range=xmin_range,
        min_tail=min_tail,
        ks=ks,
        eigenvalues=spectrum,
    )


def _standard_error(slope: float, log_range: float, num_tail: int) -> float:
    """1 / sqrt(Fisher information) at a known xmin; (alpha - 1) / sqrt(num_tail) without xmax."""
    u = abs(slope) * log_range
    # the share of the information that the cut-off at xmax leaves, 1 - (u / 2)^2 / sinh(u / 2)^2
    kept = 1.0
    if u < 1e-2:
        kept = u * u / 12
    elif u < 60:
        kept = 1 - (u / 2 / math.sinh(u / 2)) ** 2
    return abs(slope) / math.sqrt(num_tail * kept)


def tail_of(eigenvalues: ArrayLike, fit: PowerLawFit) -> NDArray[np.float64]:
    """The eigenvalues of the fit's tail, sorted; an error if the fit is of other eigenvalues."""
    spectrum = sorted_spectrum(eigenvalues)
    end = spectrum.size
    if fit.xmax is not None:
        end = int(np.searchsorted(spectrum, fit.xmax, side="right"))
    tail = spectrum[end - fit.num_tail : end]
    others = spectrum[: end - fit.num_tail]
    if (
        spectrum.size != fit.num_eigenvalues
        or (tail.size and tail[0] < fit.xmin)
        or (others.size and others[-1] >= fit.xmin > 0)
    ):
        raise ValueError(
            f"eigenvalues has {spectrum.size} that are not those of the fit; expected the "
            f"{fit.num_eigenvalues} that were fitted, {fit.num_tail} of them in the tail from "
            f"xmin={fit.xmin:.6g} on"
        )
    return tail
