"""What a model's weights are, and their spectra."""

from ._change import short_name as short_name
from ._evaluate import CONV as CONV
from ._evaluate import evaluate as evaluate

__all__ = [
    "CONV",
    "evaluate",
    "short_name",
]
