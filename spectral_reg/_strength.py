"""The strength of a penalty: a number, a schedule, or one for each kind of path."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._trees import check_patterns, matches

Schedule = Callable[[jax.Array], jax.Array]
Number = float | jax.Array | Schedule
Strength = Number | Mapping[str, Number]


def check_strength(strength: Strength) -> None:
    """Refuses what no update could be multiplied by, as far as it is known already."""
    if not isinstance(strength, Mapping):
        _check_one("strength", strength)
        return
    if not strength:
        raise ValueError("strength is {}; expected at least one pattern of paths")
    for pattern, number in strength.items():
        if not isinstance(pattern, str):
            raise TypeError(f"strength has the key {pattern!r}; expected patterns of paths")
        _check_one(f"strength[{pattern!r}]", number)


def _check_one(name: str, number: Any) -> None:
    if callable(number):
        return
    expected = "a finite number, or a schedule of the step count"
    # A tracer has a type and no value yet: inject_hyperparams gives one at each step.
    is_array = isinstance(number, (jax.Array, np.ndarray, np.generic))
    if isinstance(number, bool) or not (is_array or isinstance(number, (int, float))):
        raise TypeError(f"{name} is {number!r}; expected {expected}, or a dict of these by path")
    if is_array and (number.shape or not jnp.issubdtype(number.dtype, jnp.number)):
        raise ValueError(
            f"{name} has shape {number.shape} and dtype {number.dtype}; expected {expected}"
        )
    if not isinstance(number, jax.core.Tracer) and not np.isfinite(number):
        raise ValueError(f"{name} is {number}; expected {expected}")


def strengths_at(strength: Strength, names: Iterable[str], count: jax.Array) -> dict[str, Any]:
    """The strength of each leaf at a step.

    Raises:
        ValueError: If a pattern fits no leaf, or a leaf no pattern.
    """
    names = [*names]
    if not names:
        return {}
    if not isinstance(strength, Mapping):
        number = strength(count) if callable(strength) else strength
        return dict.fromkeys(names, number)
    check_patterns(strength, names, "strength")
    numbers = {p: number(count) if callable(number) else number for p, number in strength.items()}
    first = {name: next((p for p in numbers if matches(name, p)), None) for name in names}
    for name, pattern in first.items():
        if pattern is None:
            raise ValueError(
                f"strength has no pattern that fits {name!r}; expected one beside {[*strength]}, "
                "such as '*' for all others; or leave it out with mask"
            )
    return {name: numbers[pattern] for name, pattern in first.items() if pattern is not None}
