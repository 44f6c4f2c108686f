"""Layers of one shape through one traced body: a program does not grow with their number."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from . import _sharding as sharding

Result = TypeVar("Result")


def in_one_body(
    function: Callable[[str, Any], tuple[jax.Array, Result]],
    arguments: Mapping[str, Any],
    kinds: Mapping[str, Hashable],
) -> tuple[jax.Array, dict[str, Result]]:
    """``function(name, argument)`` of each layer, traced once for all that are alike.

    One after the other on the CPU, where batched decompositions hang and each matrix iterates as
    long as it itself needs; as a batch on accelerators. Weights that lie on several devices keep a
    body each: a stack of them would have to be laid out anew.

    Args:
        function: Gives a number, of which all layers' are added up, and a result. It has to do the
            same for all names of a kind.
        arguments: By name, trees of arrays.
        kinds: By name, what else distinguishes a layer.

    Returns:
        The sum of the numbers; and the results by name, in the order of the arguments.
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
            # Added up here: of hundreds of slices the compiler would make one kernel, in seconds.
            number, done = jax.lax.platform_dependent(
                alike, cpu=partial(_in_turn, one), default=partial(_together, one)
            )
            results.update(zip(names, done, strict=True))
        total = total + number
    return total, {name: results[name] for name in arguments}


def _stack(trees: list[Any]) -> Any:
    def one_after_the_other(*leaves: jax.Array) -> jax.Array:
        # As in jnp.stack, but that this gives each leaf an operation of its own.
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
    # A place that is known to the compiler makes a kernel of its own of every layer's part: 18 ms
    # each. Out of a condition none is known, and one kernel serves all.
    places = jax.lax.cond(
        count > 0, lambda: [*range(len(arguments))], lambda: [0] * len(arguments)
    )
    return jnp.sum(numbers), [
        jax.tree.map(
            lambda leaf, place=place: jax.lax.dynamic_index_in_dim(
                leaf, place, keepdims=False, allow_negative_indices=False
            ),
            done,
        )
        for place in places
    ]
