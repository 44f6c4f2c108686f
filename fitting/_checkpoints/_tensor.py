"""A tensor of a checkpoint, read when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """A tensor that has a shape and a type before its values are in memory.

    A tree of these has the structure, names and shapes of a tree of arrays.

    Attributes:
        shape: In Flax layout.
        dtype: Name of its type, such as ``"bfloat16"``.
        read: Reads the values, in that layout. Picklable, so that another process can do it.
        origin: Its name in the file, where that differs from its path in the tree.
        reason: Why it is not to be measured, if that is known without its values.
        kind: Of the layer, where the source says: dense, conv, conv_transpose, embedding, lstm or
            gru. Empty where it is not known, as in a bare state dict.
        groups: Of a grouped convolution, where the source says.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    origin: str = ""
    reason: str = ""
    kind: str = ""
    groups: int = 1

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)
