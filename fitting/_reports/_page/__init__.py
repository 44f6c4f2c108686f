"""The page of a report: its parts, its template and its script."""

from ._html import fill as fill
from ._html import remark_html as remark_html
from ._html import write_html as write_html
from ._table import phase_dot as phase_dot

__all__ = [
    "fill",
    "phase_dot",
    "remark_html",
    "write_html",
]
