"""The phases of training: the evidence, the cuts, and the verdict on one spectrum or several."""

from ._cuts import PhaseCuts as PhaseCuts
from ._pooled import classify_pooled as classify_pooled
from ._verdict import Phase as Phase
from ._verdict import PhaseResult as PhaseResult
from ._verdict import classify_phase as classify_phase

__all__ = [
    "Phase",
    "PhaseCuts",
    "PhaseResult",
    "classify_phase",
    "classify_pooled",
]
