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
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    origin: str = ""
    reason: str = ""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)
