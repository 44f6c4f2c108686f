"""What chance makes of a matrix: the law of its bulk, its edge, and what stands out of both."""

from ._bulk_fit import SPIKE_QUANTILE as SPIKE_QUANTILE
from ._bulk_fit import MarchenkoPasturFit as MarchenkoPasturFit
from ._bulk_fit import count_zeros as count_zeros
from ._bulk_fit import fit_marchenko_pastur as fit_marchenko_pastur
from ._localization import LocalizationMeasures as LocalizationMeasures
from ._localization import LocalizationResult as LocalizationResult
from ._localization import localization as localization
from ._marchenko_pastur import MarchenkoPastur as MarchenkoPastur
from ._pool import PooledSpectrum as PooledSpectrum
from ._pool import pool_spectra as pool_spectra
from ._shuffled_null import shuffled_null as shuffled_null
from ._spikes import SpikeSignals as SpikeSignals
from ._spikes import spike_signals as spike_signals
from ._tracy_widom import largest_eigenvalue_law as largest_eigenvalue_law
from ._tracy_widom import tracy_widom_cdf as tracy_widom_cdf
from ._tracy_widom import tracy_widom_quantile as tracy_widom_quantile
from ._traps import Traps as Traps
from ._traps import find_traps as find_traps

__all__ = [
    "SPIKE_QUANTILE",
    "LocalizationMeasures",
    "LocalizationResult",
    "MarchenkoPastur",
    "MarchenkoPasturFit",
    "PooledSpectrum",
    "SpikeSignals",
    "Traps",
    "count_zeros",
    "find_traps",
    "fit_marchenko_pastur",
    "largest_eigenvalue_law",
    "localization",
    "pool_spectra",
    "shuffled_null",
    "spike_signals",
    "tracy_widom_cdf",
    "tracy_widom_quantile",
]
