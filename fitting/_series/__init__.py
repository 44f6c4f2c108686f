"""One model over training."""

from ._follow import follow as follow
from ._sentences import SIGNIFICANT as SIGNIFICANT
from ._sentences import label as label
from ._sentences import remarks as remarks
from ._series import Series as Series
from ._series import load_series as load_series

__all__ = [
    "SIGNIFICANT",
    "Series",
    "follow",
    "label",
    "load_series",
    "remarks",
]
