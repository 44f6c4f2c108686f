"""The steps at which something is due, and what is held between them."""

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ._stacks import anywhere

Result = TypeVar("Result")


def check_every(every: Any) -> int | jax.Array:
    """The period, which is a number or an array from ``inject_hyperparams``."""
    if isinstance(every, jax.Array):
        if every.shape or not jnp.issubdtype(every.dtype, jnp.integer):
            raise ValueError(
                f"every has shape {every.shape} and dtype {every.dtype}; expected a whole number"
            )
        return every
    try:
        number = operator.index(every)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"every is {every!r}; expected a whole number of at least 1")
    return number


@jax.custom_batching.custom_vmap
def _each(condition: jax.Array) -> jax.Array:
    """Whether each member of a batch has the condition; of a single one it is taken for granted.

    So no select is compiled for what only a batch needs to tell apart.
    """
    return jnp.ones_like(condition)


@_each.def_vmap
def _each_in_a_batch(
    size: int, is_batched: list[bool], condition: jax.Array
) -> tuple[jax.Array, bool]:
    del size
    return condition, is_batched[0]


def renewed(due: jax.Array, renew: Callable[[], Result], held: Result) -> Result:
    """``renew()`` at the steps at which it is due, and what is held at the others."""

    def where_due() -> Result:
        return jax.tree.map(
            lambda new, old: jnp.where(_each(due), new.astype(old.dtype), old), renew(), held
        )

    return jax.lax.cond(anywhere(due), where_due, lambda: held)
