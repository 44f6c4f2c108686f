"""Non-differentiable fits of spectra: power laws, Marchenko-Pastur, phases, whole models."""

from . import _requirements

_requirements.check_installed()

from ._comparison import Comparison as Comparison
from ._comparison import compare as compare
from ._comparison import compare_values as compare_values
from ._comparison import load_comparison as load_comparison
from ._evaluation import evaluate as evaluate
from ._phase import Phase as Phase
from ._phase import PhaseCuts as PhaseCuts
from ._phase import PhaseResult as PhaseResult
from ._phase import classify_phase as classify_phase
from ._power_laws import DistributionComparison as DistributionComparison
from ._power_laws import PowerLawFit as PowerLawFit
from ._power_laws import PowerLawFits as PowerLawFits
from ._power_laws import TraceLog as TraceLog
from ._power_laws import UniversalityClass as UniversalityClass
from ._power_laws import bootstrap_sigma as bootstrap_sigma
from ._power_laws import compare_distributions as compare_distributions
from ._power_laws import fit_power_law as fit_power_law
from ._power_laws import fit_power_laws as fit_power_laws
from ._power_laws import goodness_of_fit as goodness_of_fit
from ._power_laws import trace_log as trace_log
from ._power_laws import universality_class as universality_class
from ._random_matrices import LocalizationMeasures as LocalizationMeasures
from ._random_matrices import LocalizationResult as LocalizationResult
from ._random_matrices import MarchenkoPastur as MarchenkoPastur
from ._random_matrices import MarchenkoPasturFit as MarchenkoPasturFit
from ._random_matrices import PooledSpectrum as PooledSpectrum
from ._random_matrices import SpikeSignals as SpikeSignals
from ._random_matrices import Traps as Traps
from ._random_matrices import find_traps as find_traps
from ._random_matrices import fit_marchenko_pastur as fit_marchenko_pastur
from ._random_matrices import largest_eigenvalue_law as largest_eigenvalue_law
from ._random_matrices import localization as localization
from ._random_matrices import pool_spectra as pool_spectra
from ._random_matrices import shuffled_null as shuffled_null
from ._random_matrices import spike_signals as spike_signals
from ._random_matrices import tracy_widom_cdf as tracy_widom_cdf
from ._random_matrices import tracy_widom_quantile as tracy_widom_quantile
from ._reports import Report as Report
from ._reports import load_report as load_report
from ._series import PhaseWatch as PhaseWatch
from ._series import Series as Series
from ._series import follow as follow
from ._series import load_series as load_series
from ._series import watch_phases as watch_phases

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
    "PhaseWatch",
    "PooledSpectrum",
    "PowerLawFit",
    "PowerLawFits",
    "Report",
    "Series",
    "SpikeSignals",
    "TraceLog",
    "Traps",
    "UniversalityClass",
    "bootstrap_sigma",
    "classify_phase",
    "compare",
    "compare_distributions",
    "compare_values",
    "evaluate",
    "find_traps",
    "fit_marchenko_pastur",
    "fit_power_law",
    "fit_power_laws",
    "follow",
    "goodness_of_fit",
    "largest_eigenvalue_law",
    "load_comparison",
    "load_report",
    "load_series",
    "localization",
    "pool_spectra",
    "shuffled_null",
    "spike_signals",
    "trace_log",
    "tracy_widom_cdf",
    "tracy_widom_quantile",
    "universality_class",
    "watch_phases",
]
