"""Whether another heavy or light tail describes a spectrum better than the power law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._alternatives import ALTERNATIVES
from ._power_law import PowerLawFit, tail_of

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class DistributionComparison:
    """How the power law fares against its alternatives, each fitted to the same tail.

    The mappings have the keys "truncated_power_law", "exponential", "stretched_exponential" and
    "lognormal", the names that powerlaw uses.

    Attributes:
        R: Log-likelihood of the power law less that of the alternative. Positive is for the power
            law, as against the exponential it can be. The others contain it, the lognormal (mu to
            minus infinity) and the stretched exponential (beta to 0) in a limit: theirs is never
            positive, and 0 with p = 1 where they are most likely as the power law itself.
        normalized_R: R over its standard deviation, ``sqrt(num_tail) std(l_i)``.
        p: Probability of an R as far from zero if both described the tail equally well: after
            Vuong, or after Wilks for the truncated power law.
        best: "power_law", or the alternative that the papers' rule prefers to it.
        loglikelihood: Of each distribution, with "power_law" among the keys.
        parameters: Of each alternative, by powerlaw's names.
    """

    R: Mapping[str, float]
    normalized_R: Mapping[str, float]
    p: Mapping[str, float]
    best: str
    loglikelihood: Mapping[str, float]
    parameters: Mapping[str, Mapping[str, float]] = field(repr=False)


def compare_distributions(eigenvalues: ArrayLike, fit: PowerLawFit) -> DistributionComparison:
    """Compares the power law with four other distributions of the same tail.

    R = sum_i ln p(l_i) - ln q(l_i) for the power law p and an alternative q, both at their maximum
    likelihood on the eigenvalues from the fit's xmin on. The papers' rule lets an alternative
    replace the power law where R < 0 with p <= 0.05, in the order truncated power law, exponential,
    stretched exponential, lognormal. Where several do, each must also beat the one before it by
    Akaike's criterion: three of the four can come close to any of the others, and the last would
    win whatever the spectrum.

    Args:
        eigenvalues: ``[M]``, what ``fit`` was fitted to.
        fit: From :func:`fit_power_law`, without xmax.

    Returns:
        R, p and the maximum-likelihood parameters of each alternative, and the best.

    Raises:
        ValueError: If the fit has an xmax, a tail of fewer than three distinct values, or was made
            from other eigenvalues.

    Example:
        >>> import numpy as np
        >>> import fitting
        >>> eigenvalues = 1 + np.random.default_rng(1).exponential(size=1000)
        >>> fit = fitting.fit_power_law(eigenvalues, xmin=1)
        >>> comparison = fitting.compare_distributions(eigenvalues, fit)
        >>> comparison.best, comparison.R["exponential"] < 0
        ('exponential', True)

    Cost: a search in one or two dimensions for each alternative, over the tail alone.

    References:
        Clauset, Shalizi and Newman 2009, section 5 and appendix C; Vuong 1989; the order of the
        rule after the notebooks of Martin and Mahoney 2018.
    """
    tail = tail_of(eigenvalues, fit)
    if fit.xmax is not None:
        raise ValueError(
            f"the fit has xmax={fit.xmax:.6g}; expected one without, as the alternatives have no "
            "end; fit again without it"
        )
    if np.unique(tail).size < 3:
        raise ValueError(
            f"the tail of the fit has fewer than three distinct eigenvalues ({fit.reason}); "
            "expected three or more to compare on"
        )
    logs = np.log(tail) - math.log(fit.xmin)  # the quotient can overflow
    slope = 1.0 / float(np.mean(logs))
    # Densities of ln(l / xmin); the Jacobian is the same for all and enters at the end.
    power_law = math.log(slope) - slope * logs
    jacobian = -float(np.sum(logs)) - tail.size * math.log(fit.xmin)
    loglikelihood = {"power_law": float(np.sum(power_law)) + jacobian}
    R, normalized_R, p, parameters = {}, {}, {}, {}
    for name, maximize in ALTERNATIVES.items():
        densities, parameters[name] = maximize(logs, fit.xmin)
        loglikelihood[name] = float(np.sum(densities)) + jacobian
        R[name], normalized_R[name], p[name] = _ratio(
            power_law - densities, nested=name == "truncated_power_law"
        )
    return DistributionComparison(
        R, normalized_R, p, _best(R, p, parameters), loglikelihood, parameters
    )


def _ratio(differences: NDArray[np.float64], *, nested: bool) -> tuple[float, float, float]:
    from scipy.special import erfc

    R = float(np.sum(differences))
    spread = math.sqrt(differences.size) * float(np.std(differences))
    # Where one has become the other, what is left of R is rounding.
    if abs(R) < 1e-9 * differences.size or spread == 0:
        return 0.0, 0.0, 1.0
    # Wilks: 2 |R| is chi-squared with one degree of freedom
    z = math.sqrt(2 * abs(R)) if nested else abs(R) / spread
    return R, R / spread, float(erfc(z / math.sqrt(2)))


def _best(
    R: Mapping[str, float], p: Mapping[str, float], parameters: Mapping[str, Mapping[str, float]]
) -> str:
    best, least = "power_law", 2.0
    for name in ALTERNATIVES:
        # Akaike's criterion, less what is common to all
        criterion = 2.0 * len(parameters[name]) + 2.0 * R[name]
        if R[name] < 0 and p[name] <= SIGNIFICANT and criterion < least:
            best, least = name, criterion
    return best
