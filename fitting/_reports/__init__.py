"""What an evaluation found, and the ways to see it."""

from ._columns import layers_table as layers_table
from ._measurements import FORMAT as FORMAT
from ._measurements import Measurements as Measurements
from ._measurements import is_report as is_report
from ._page import fill as fill
from ._page import phase_dot as phase_dot
from ._page import remark_html as remark_html
from ._remarks import MEANINGS as MEANINGS
from ._remarks import Remark as Remark
from ._remarks import fold as fold
from ._remarks import fused_whole as fused_whole
from ._remarks import not_measured as not_measured
from ._remarks import phase_counts as phase_counts
from ._report import Report as Report
from ._report import load_report as load_report
from ._report import make_report as make_report

__all__ = [
    "FORMAT",
    "MEANINGS",
    "Measurements",
    "Remark",
    "Report",
    "fill",
    "fold",
    "fused_whole",
    "is_report",
    "layers_table",
    "load_report",
    "make_report",
    "not_measured",
    "phase_counts",
    "phase_dot",
    "remark_html",
]
