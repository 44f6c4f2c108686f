"""One model over training."""

from ._follow import follow as follow
from ._sentences import SIGNIFICANT as SIGNIFICANT
from ._sentences import label as label
from ._sentences import remarks as remarks
from ._series import Series as Series
from ._series import load_series as load_series
from ._watch_phases import PhaseWatch as PhaseWatch
from ._watch_phases import watch_phases as watch_phases

__all__ = [
    "SIGNIFICANT",
    "PhaseWatch",
    "Series",
    "follow",
    "label",
    "load_series",
    "remarks",
    "watch_phases",
]
