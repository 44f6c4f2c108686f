"""The page of a report: its parts, its template and its script."""

from ._html import write_html as write_html

__all__ = [
    "write_html",
]
