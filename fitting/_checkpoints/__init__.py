"""Checkpoints of every format, as trees of tensors with Flax names and layouts."""

from ._open import FORMATS as FORMATS
from ._open import find_file as find_file
from ._open import open_checkpoint as open_checkpoint
from ._tensor import Tensor as Tensor

__all__ = ["FORMATS", "Tensor", "find_file", "open_checkpoint"]
