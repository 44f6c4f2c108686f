"""Checkpoints of every format, as trees of tensors with Flax names and layouts."""

from ._open import FORMATS as FORMATS
from ._open import find_file as find_file
from ._open import open_checkpoint as open_checkpoint
from ._packed import noise_edge as noise_edge
from ._sharded import INDEX as INDEX
from ._tensor import Tensor as Tensor
from ._torch_modules import live_adapters as live_adapters

__all__ = [
    "FORMATS",
    "INDEX",
    "Tensor",
    "find_file",
    "live_adapters",
    "noise_edge",
    "open_checkpoint",
]
