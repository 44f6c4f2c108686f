"""Models beside one another, and beside their quality."""

from ._comparison import Comparison as Comparison
from ._comparison import compare as compare
from ._comparison import compare_values as compare_values
from ._comparison import load_comparison as load_comparison
from ._figures import is_drawable as is_drawable
from ._quality_table import check_quality as check_quality
from ._sentences import SIGNIFICANT as SIGNIFICANT

__all__ = [
    "SIGNIFICANT",
    "Comparison",
    "check_quality",
    "compare",
    "compare_values",
    "is_drawable",
    "load_comparison",
]
