"""What an evaluation found, and the ways to see it."""

from ._measurements import FORMAT as FORMAT
from ._measurements import Measurements as Measurements
from ._measurements import is_report as is_report
from ._remarks import fold as fold
from ._remarks import phase_counts as phase_counts
from ._report import Report as Report
from ._report import load_report as load_report
from ._report import make_report as make_report

__all__ = [
    "FORMAT",
    "Measurements",
    "Report",
    "fold",
    "is_report",
    "load_report",
    "make_report",
    "phase_counts",
]
