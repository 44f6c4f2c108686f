"""Layers of one shape through one traced body: a program does not grow with their number."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from . import _sharding as sharding

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
    groups: dict[Hashable, list[str]] = {}
    for name, argument in arguments.items():
        leaves, structure = jax.tree.flatten(argument)
        alone = name if any(sharding.mesh_of(leaf) is not None for leaf in leaves) else None
        kind = (kinds[name], structure, tuple(jax.typeof(leaf) for leaf in leaves), alone)
        groups.setdefault(kind, []).append(name)
    results: dict[str, Any] = {}
    for names in groups.values():
        one = partial(function, names[0])
        if len(names) == 1:
            results[names[0]] = one(arguments[names[0]])
            continue
        alike = [arguments[name] for name in names]
        done = jax.lax.platform_dependent(
            alike, cpu=partial(_in_turn, one), default=partial(_together, one)
        )
        results.update(zip(names, done, strict=True))
    return {name: results[name] for name in arguments}


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _together(function: Callable[[Any], Result], arguments: list[Any]) -> list[Result]:
    done = jax.vmap(function)(_stack(arguments))
    return [jax.tree.map(lambda leaf, n=n: leaf[n], done) for n in range(len(arguments))]


def _in_turn(function: Callable[[Any], Result], arguments: list[Any]) -> list[Result]:
    count, done = jax.lax.scan(
        lambda count, argument: (count + 1, function(argument)),
        jnp.zeros((), jnp.int32),
        _stack(arguments),
    )
    # For an index that the compiler knows it makes a kernel of its own, 18 ms for each layer. An
    # index counted up behind a condition is unknown to it, and one kernel serves all layers.
    results, place = [], count - len(arguments)
    for _ in arguments:
        results.append(
            jax.tree.map(
                lambda leaf, place=place: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False),
                done,
            )
        )
        place = jax.lax.cond(count > 0, lambda place: place + 1, lambda place: place, place)
    return results
