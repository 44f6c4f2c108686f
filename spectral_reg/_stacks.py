"""What is done with each matrix of a stack, be the stack an array's own or that of a ``vmap``.

On the CPU the decompositions of a stack are done one at a time. XLA hands a batched one to its pool
of threads and waits in one of them: as many at once as the pool has threads wait for one another
for ever. Seen with jax 0.10.2 on two cores: a program that decomposes two stacks of 24 matrices,
128 x 128, each by eigh and then qr, hung in 2 of 2 processes; with one such stack in 0 of 4, with
stacks of 2 or 4, or matrices of 32 x 32, in 0 of 4; one matrix at a time, in 0 of 4. A single
matrix is decomposed by the thread that asks for it, and nothing waits.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ._blocks import HIGHEST

Result = TypeVar("Result")


def stacked(operation: Callable[..., Result]) -> Callable[..., Result]:
    """The operation on stacks, to which the axis of a ``vmap`` is one more in front."""
    mapped = jax.custom_batching.custom_vmap(operation)

    @mapped.def_vmap
    def rule(size: int, is_batched: list[bool], *arrays: jax.Array) -> tuple[Result, Any]:
        wide = (
            array if batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, batched in zip(arrays, is_batched, strict=True)
        )
        result = stacked(operation)(*wide)
        return result, jax.tree.map(lambda _: True, result)

    return mapped


def in_turn(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function of stacks, on the CPU of one matrix at a time: under ``vmap`` too.

    Not differentiable in reverse mode.
    """

    def one_at_a_time(*stacks: jax.Array) -> Result:
        shape = stacks[0].shape[:-2]
        matrices = [stack.reshape(-1, *stack.shape[-2:]) for stack in stacks]
        results = jax.lax.map(lambda matrices: function(*matrices), matrices)
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), results)

    def on_stacks(*stacks: jax.Array) -> Result:
        if math.prod(stacks[0].shape[:-2]) == 1:
            return function(*stacks)
        return jax.lax.platform_dependent(*stacks, cpu=one_at_a_time, default=function)

    return stacked(on_stacks)


@jax.custom_batching.custom_vmap
def anywhere(condition: jax.Array) -> jax.Array:
    """The condition; under ``vmap`` whether any has it, so that ``lax.cond`` stays a branch.

    As a select, to which JAX turns a branch of a batched condition, both sides would be computed.
    """
    return condition


@anywhere.def_vmap
def _anywhere_in_a_batch(
    size: int, is_batched: list[bool], condition: jax.Array
) -> tuple[jax.Array, bool]:
    del size, is_batched
    return anywhere(jnp.any(condition, axis=0)), False


_values_and_vectors = in_turn(
    lambda X: tuple(jnp.linalg.eigh(X, symmetrize_input=False))  # its own type is no tree of vmap's
)
orthonormal = in_turn(lambda A: jnp.linalg.qr(A)[0])
orthonormal.__doc__ = "An orthonormal basis ``[..., M, K]`` of the columns of each matrix."


@jax.custom_jvp
def eigh(X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues, ascending, and vectors as columns, of symmetric or Hermitian matrices."""
    return _values_and_vectors(X)


@eigh.defjvp
def _eigh_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[Any, Any]:
    (X,), (dX,) = primals, tangents
    values, V = eigh(X)
    turned = jnp.swapaxes(V.conj(), -1, -2)
    dS = jnp.matmul(jnp.matmul(turned, dX, precision=HIGHEST), V, precision=HIGHEST)
    gaps = values[..., None, :] - values[..., :, None]
    same = jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=bool), gaps.shape)
    turn = jnp.where(same, 0, 1 / jnp.where(same, 1, gaps)).astype(X.dtype)
    dV = jnp.matmul(V, turn * dS, precision=HIGHEST)
    return (values, V), (jnp.diagonal(dS, axis1=-2, axis2=-1).real, dV)
