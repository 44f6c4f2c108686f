"""Non-differentiable fits of spectra: power laws, Marchenko-Pastur, phases, whole models."""

from ._comparison._comparison import Comparison as Comparison
from ._comparison._comparison import compare as compare
from ._comparison._comparison import compare_values as compare_values
from ._evaluation._evaluate import evaluate as evaluate
from ._phase._evidence import PhaseCuts as PhaseCuts
from ._phase._verdict import Phase as Phase
from ._phase._verdict import PhaseResult as PhaseResult
from ._phase._verdict import classify_phase as classify_phase
from ._power_laws._distributions import DistributionComparison as DistributionComparison
from ._power_laws._distributions import compare_distributions as compare_distributions
from ._power_laws._goodness import bootstrap_sigma as bootstrap_sigma
from ._power_laws._goodness import goodness_of_fit as goodness_of_fit
from ._power_laws._many import PowerLawFits as PowerLawFits
from ._power_laws._many import fit_power_laws as fit_power_laws
from ._power_laws._power_law import PowerLawFit as PowerLawFit
from ._power_laws._power_law import fit_power_law as fit_power_law
from ._power_laws._universality import UniversalityClass as UniversalityClass
from ._power_laws._universality import universality_class as universality_class
from ._random_matrices._bulk_fit import MarchenkoPasturFit as MarchenkoPasturFit
from ._random_matrices._bulk_fit import fit_marchenko_pastur as fit_marchenko_pastur
from ._random_matrices._localization import LocalizationMeasures as LocalizationMeasures
from ._random_matrices._localization import LocalizationResult as LocalizationResult
from ._random_matrices._localization import localization as localization
from ._random_matrices._marchenko_pastur import MarchenkoPastur as MarchenkoPastur
from ._random_matrices._pool import PooledSpectrum as PooledSpectrum
from ._random_matrices._pool import pool_spectra as pool_spectra
from ._random_matrices._shuffled_null import shuffled_null as shuffled_null
from ._random_matrices._spikes import SpikeSignals as SpikeSignals
from ._random_matrices._spikes import spike_signals as spike_signals
from ._random_matrices._tracy_widom import largest_eigenvalue_law as largest_eigenvalue_law
from ._random_matrices._tracy_widom import tracy_widom_cdf as tracy_widom_cdf
from ._random_matrices._tracy_widom import tracy_widom_quantile as tracy_widom_quantile
from ._reports._report import Report as Report
from ._reports._report import load_report as load_report

__all__ = [
    "Comparison",
    "DistributionComparison",
    "LocalizationMeasures",
    "LocalizationResult",
    "MarchenkoPastur",
    "MarchenkoPasturFit",
    "Phase",
    "PhaseCuts",
    "PhaseResult",
    "PooledSpectrum",
    "PowerLawFit",
    "PowerLawFits",
    "Report",
    "SpikeSignals",
    "UniversalityClass",
    "bootstrap_sigma",
    "classify_phase",
    "compare",
    "compare_distributions",
    "compare_values",
    "evaluate",
    "fit_marchenko_pastur",
    "fit_power_law",
    "fit_power_laws",
    "goodness_of_fit",
    "largest_eigenvalue_law",
    "load_report",
    "localization",
    "pool_spectra",
    "shuffled_null",
    "spike_signals",
    "tracy_widom_cdf",
    "tracy_widom_quantile",
    "universality_class",
]
