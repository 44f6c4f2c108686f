"""Power laws fitted to the tails of spectra, and how far to trust them."""

from ._distributions import DistributionComparison as DistributionComparison
from ._distributions import compare_distributions as compare_distributions
from ._goodness import bootstrap_sigma as bootstrap_sigma
from ._goodness import goodness_of_fit as goodness_of_fit
from ._many import PowerLawFits as PowerLawFits
from ._many import fit_power_laws as fit_power_laws
from ._power_law import PowerLawFit as PowerLawFit
from ._power_law import fit_power_law as fit_power_law
from ._trace_log import TraceLog as TraceLog
from ._trace_log import trace_log as trace_log
from ._universality import UniversalityClass as UniversalityClass
from ._universality import universality_class as universality_class

__all__ = [
    "DistributionComparison",
    "PowerLawFit",
    "PowerLawFits",
    "TraceLog",
    "UniversalityClass",
    "bootstrap_sigma",
    "compare_distributions",
    "fit_power_law",
    "fit_power_laws",
    "goodness_of_fit",
    "trace_log",
    "universality_class",
]
