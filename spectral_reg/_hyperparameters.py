"""Functions that ``optax.inject_hyperparams`` takes for what they are.

It takes every argument that can be called for a schedule. A metric, a mask or a convolution's
spectrum therefore is one: of its own, stateful kind, whose value at every step is itself.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Kept:
    """A function on its way through Optax's state, in which it is no leaf."""

    function: Callable

    @property
    def dtype(self) -> np.dtype:
        """That of no float, which Optax would convert."""
        return np.dtype(bool)


class StaysItself:
    """What makes the functions of a class such schedules; ``__call__`` gives a Kept back."""

    def init(self) -> Kept:
        """The state, which is the function."""
        return Kept(self)  # type: ignore[arg-type]

    def update(self, state: Kept, **extra: Any) -> Kept:
        """The same state."""
        del extra
        return state


def stays_itself(function: Callable) -> Callable:
    """Makes such a schedule of one function."""

    @functools.wraps(function)
    def scheduled(first: Any, *rest: Any, **options: Any) -> Any:
        return first if isinstance(first, Kept) else function(first, *rest, **options)

    scheduled.init = lambda: Kept(scheduled)  # type: ignore[attr-defined]
    scheduled.update = lambda state, **extra: state  # type: ignore[attr-defined]
    return scheduled


def unpacked(argument: Any) -> Any:
    """The function that came through Optax's state, or the argument as it is."""
    return argument.function if isinstance(argument, Kept) else argument
