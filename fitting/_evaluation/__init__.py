"""What a model's weights are, and their spectra."""

from ._change import short_name as short_name
from ._evaluate import CONV as CONV
from ._evaluate import evaluate as evaluate
from ._evaluate import measure_unit as measure_unit
from ._evaluate import open_plan as open_plan
from ._execution import run as run
from ._finished import describe as describe
from ._measure import EXTRAS as EXTRAS
from ._unit import Unit as Unit

__all__ = [
    "CONV",
    "EXTRAS",
    "Unit",
    "describe",
    "evaluate",
    "measure_unit",
    "open_plan",
    "run",
    "short_name",
]
