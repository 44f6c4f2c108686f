"""Layers of one shape through one traced body: a program does not grow with their number."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._stacks import anywhere

Result = TypeVar("Result")


def in_one_body(
    function: Callable[[str, Any], Result],
    arguments: Mapping[str, Any],
    kinds: Mapping[str, Hashable],
) -> dict[str, Result]:
    """``function(name, argument)`` of each layer, traced once for all that are alike.

    On the CPU they run one after the other, as batched decompositions hang there and each matrix
    then iterates only as long as it needs to; on accelerators they run as a batch. Weights that lie
    on several devices keep a body each, since a stack of them would have to be laid out anew.

    Args:
        function: What is done with a layer, the same for all names of one kind.
        arguments: Trees of arrays, by name.
        kinds: What else distinguishes a layer, by name.

    Returns:
        The results by name, in the order of the arguments.
    """
    return summed_in_one_body(
        lambda name, argument: (jnp.zeros(()), function(name, argument)), arguments, kinds
    )[1]


def summed_in_one_body(
    function: Callable[[str, Any], tuple[jax.Array, Result]],
    arguments: Mapping[str, Any],
    kinds: Mapping[str, Hashable],
) -> tuple[jax.Array, dict[str, Result]]:
    """As :func:`in_one_body`, of a function that gives a number too; and the sum of the numbers.

    From the results the sum would be a single kernel of all of them, seconds to compile for
    hundreds of layers.
    """
    groups: dict[Hashable, list[str]] = {}
    for name, argument in arguments.items():
        leaves, structure = jax.tree.flatten(argument)
        alone = name if any(sharding.mesh_of(leaf) is not None for leaf in leaves) else None
        kind = (kinds[name], structure, tuple(jax.typeof(leaf) for leaf in leaves), alone)
        groups.setdefault(kind, []).append(name)
    total, results = jnp.zeros(()), {}
    for names in groups.values():
        one = partial(function, names[0])
        if len(names) == 1:
            number, results[names[0]] = one(arguments[names[0]])
        else:
            alike = [arguments[name] for name in names]
            number, done = jax.lax.platform_dependent(
                alike, cpu=partial(_in_turn, one), default=partial(_together, one)
            )
            results.update(zip(names, done, strict=True))
        total = total + number
    return total, {name: results[name] for name in arguments}


def _stack(trees: list[Any]) -> Any:
    def one_after_the_other(*leaves: jax.Array) -> jax.Array:
        # jnp.stack would first reshape each leaf, an operation for every layer.
        if leaves[0].ndim == 0:
            return jnp.stack(leaves)
        return jnp.concatenate(leaves).reshape(len(leaves), *leaves[0].shape)

    return jax.tree.map(one_after_the_other, *trees)


def _together(
    function: Callable[[Any], tuple[jax.Array, Result]], arguments: list[Any]
) -> tuple[jax.Array, list[Result]]:
    numbers, done = jax.vmap(function)(_stack(arguments))
    results = [jax.tree.map(lambda leaf, n=n: leaf[n], done) for n in range(len(arguments))]
    return jnp.sum(numbers), results


def _in_turn(
    function: Callable[[Any], tuple[jax.Array, Result]], arguments: list[Any]
) -> tuple[jax.Array, list[Result]]:
    count, (numbers, done) = jax.lax.scan(
        lambda count, argument: (count + 1, function(argument)),
        jnp.zeros((), jnp.int32),
        _stack(arguments),
    )
    return jnp.sum(numbers), [
        jax.tree.map(
            lambda leaf, place=place: jax.lax.dynamic_index_in_dim(
                leaf, place, keepdims=False, allow_negative_indices=False
            ),
            done,
        )
        for place in places_at_run_time(range(len(arguments)), count)
    ]


def places_at_run_time(places: Iterable[int], count: jax.Array) -> list[jax.Array]:
    """The places, if the count is above 0, as it always is.

    A place that is known to the compiler makes a kernel of its own of every part that is taken out
    of an array: 18 ms each. Out of a condition none is known, and one kernel serves all.
    """
    known = [*places]
    return jax.lax.cond(anywhere(count > 0), lambda: known, lambda: [0] * len(known))
