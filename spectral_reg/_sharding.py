"""The products of a spectrum, on matrices that lie in parts on several devices.

Each product is written once, in ``_blocks``, as what one device does with its block of W. Where
the mesh has Explicit axes, the type of W says which block that is, and ``shard_map`` runs it. Auto
axes hide it from everything but the compiler's partitioner, so there the partitioner calls back.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from . import _blocks as blocks
from ._partitioner import for_partitioner
from ._stacks import stacked

Result = TypeVar("Result")


def mesh_of(W: jax.Array) -> AbstractMesh | None:
    """The mesh of several devices that W lies on, or None: inside shard_map, W is one's own."""
    mesh = jax.typeof(W).sharding.mesh
    if mesh.empty:
        mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types:
        return None
    if len(set(mesh.axis_types)) > 1:
        raise ValueError(
            f"the mesh has axes of types {mesh.axis_types}; expected all Explicit or all Auto"
        )
    return mesh


def gram(W: jax.Array) -> jax.Array:
    """W^* W ``[..., M, M]``, on every device."""
    return stacked(partial(_on_blocks, blocks.gram, False))(W)


def squared_column_norms(W: jax.Array, V: jax.Array) -> jax.Array:
    """||W v_i||^2 ``[..., K]`` of the columns of V ``[..., M, K]``, on every device."""
    return stacked(partial(_on_blocks, blocks.squared_column_norms, False))(W, V)


def gram_times(W: jax.Array, V: jax.Array) -> jax.Array:
    """W^T (W V) ``[..., M, K]``, on every device, for K much less than M."""
    return stacked(partial(_on_blocks, blocks.gram_times, False))(W, V)


def times(W: jax.Array, A: jax.Array, *B: jax.Array) -> jax.Array:
    """W A B^T for A and B ``[..., M, K]``, or W A for A ``[..., M, M]``, lying as W does."""
    return stacked(partial(_on_blocks, blocks.times, True))(W, A, *B)


def cut(W: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """The entries ``[..., K, R, C]`` at rows ``[..., K, R]`` and columns, on every device."""
    return stacked(partial(_on_blocks, blocks.cut, False))(W, rows, cols)


def paste(W: jax.Array, entries: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """Those entries, added up in zeros, lying as W does."""
    return stacked(partial(_on_blocks, blocks.paste, True))(W, entries, rows, cols)


def spread(function: Callable[..., Result], *stacks: jax.Array, mesh: AbstractMesh) -> Result:
    """Applies a function of matrices to each of a stack, shared out among the devices.

    One matrix at a time, each on one device, and the results on all of them: batched, they would
    all be done everywhere, and a batched eigh hangs in a program of several CPU devices.
    """
    return stacked(partial(_spread, function, mesh))(*stacks)


def _spread(function: Callable[..., Result], mesh: AbstractMesh, *stacks: jax.Array) -> Result:
    shape = stacks[0].shape[:-2]
    count = math.prod(shape)
    num_rounds = -(-count // mesh.size)

    def share(*stacks: jax.Array) -> Any:
        matrices = [stack.reshape(count, *stack.shape[-2:]) for stack in stacks]
        first = jax.lax.axis_index(mesh.axis_names)
        turns = jnp.arange(num_rounds, dtype=first.dtype)
        nothing = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(function, *(stack[0] for stack in matrices)),
        )

        def one(turn: jax.Array) -> Any:
            mine = first + turn * mesh.size
            return jax.lax.cond(
                mine < count,
                lambda: function(*(stack[jnp.minimum(mine, count - 1)] for stack in matrices)),
                lambda: nothing,
            )

        done = jax.lax.map(one, turns)
        mine = first + turns * mesh.size

        def collect(leaf: jax.Array) -> jax.Array:
            everywhere = jnp.zeros((count, *leaf.shape[1:]), leaf.dtype)
            everywhere = everywhere.at[mine].set(leaf, mode="drop")
            everywhere = jax.lax.psum(everywhere, mesh.axis_names)
            return everywhere.reshape(*shape, *leaf.shape[1:])

        return jax.tree.map(collect, done)

    specs = PartitionSpec()
    mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=False)
    return jax.jit(mapped)(*(_lay_out(stack, mesh, specs) for stack in stacks))


def _on_blocks(
    product: Callable[..., jax.Array], like_W: bool, W: jax.Array, *small: jax.Array
) -> jax.Array:
    mesh = mesh_of(W)
    if mesh is None:
        return product(W, *small, layout=blocks.layout_of(PartitionSpec(), W.ndim))
    if AxisType.Auto in mesh.axis_types:
        return AUTO[product](W, *small)
    spec = jax.typeof(W).sharding.spec
    layout = blocks.layout_of(spec, W.ndim)
    batch = PartitionSpec(*spec[: W.ndim - 2])
    mapped = jax.shard_map(
        partial(product, layout=layout),
        mesh=mesh,
        in_specs=(spec, *(batch for _ in small)),
        out_specs=spec if like_W else PartitionSpec(),
        check_vma=False,
    )
    return jax.jit(mapped)(W, *(_lay_out(matrix, mesh, batch) for matrix in small))


def _lay_out(array: jax.Array, mesh: AbstractMesh, spec: PartitionSpec) -> jax.Array:
    """The array under the sharding that shard_map demands of Explicit axes, and asks of Auto."""
    return jax.reshard(array, NamedSharding(mesh, spec)) if _is_explicit(mesh) else array


def everywhere(array: jax.Array, mesh: AbstractMesh | None) -> jax.Array:
    """The array whole on every device of the mesh of W, if W lies on one."""
    if mesh is None:
        return array
    if _is_explicit(mesh):
        return _lay_out(array, mesh, PartitionSpec())
    if not isinstance(array, jax.core.Tracer):
        return array
    # The compiler would choose for each step anew, and a step's state must lie as the last one's.
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec()))


def replicated(array: jax.Array) -> jax.Array:
    """The array whole on every device of its own mesh."""
    return everywhere(array, mesh_of(array))


def _is_explicit(mesh: AbstractMesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


AUTO = {
    blocks.gram: for_partitioner(blocks.gram, False),
    blocks.squared_column_norms: for_partitioner(blocks.squared_column_norms, False),
    blocks.gram_times: for_partitioner(blocks.gram_times, False),
    blocks.times: for_partitioner(blocks.times, True),
    blocks.cut: for_partitioner(blocks.cut, False),
    blocks.paste: for_partitioner(blocks.paste, True),
}
