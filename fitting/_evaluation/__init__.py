"""What a model's weights are, and their spectra."""

from ._evaluate import CONV as CONV
from ._evaluate import evaluate as evaluate

__all__ = [
    "CONV",
    "evaluate",
]
