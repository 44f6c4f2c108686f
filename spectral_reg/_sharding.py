"""The products of a spectrum, on matrices that lie in parts on several devices.

Each product is written once, as what one device does with its block of W. Where the mesh has
Explicit axes, the type of W says which block that is, and ``shard_map`` runs it. Auto axes hide it
from everything but the compiler's partitioner, so there the partitioner calls back.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

HIGHEST = jax.lax.Precision.HIGHEST
Names = tuple[str, ...]
Result = TypeVar("Result")


class Layout(NamedTuple):
    """The mesh axes that cut each axis of a stack of matrices."""

    batch: tuple[Names, ...]
    rows: Names
    cols: Names


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
    """W^T W ``[..., M, M]``, on every device."""
    return _batched(partial(_on_blocks, _gram, False))(W)


def squared_column_norms(W: jax.Array, V: jax.Array) -> jax.Array:
    """||W v_i||^2 ``[..., K]`` of the columns of V ``[..., M, K]``, on every device."""
    return _batched(partial(_on_blocks, _squared_column_norms, False))(W, V)


def gram_times(W: jax.Array, V: jax.Array) -> jax.Array:
    """W^T (W V) ``[..., M, K]``, on every device, for K much less than M."""
    return _batched(partial(_on_blocks, _gram_times, False))(W, V)


def times(W: jax.Array, A: jax.Array, B: jax.Array) -> jax.Array:
    """W A B^T for A and B ``[..., M, K]``, lying as W does."""
    return _batched(partial(_on_blocks, _times, True))(W, A, B)


def spread(function: Callable[..., Result], *stacks: jax.Array, mesh: AbstractMesh) -> Result:
    """Applies a function of matrices to each of a stack, shared out among the devices.

    One matrix at a time, each on one device, and the results on all of them: batched, they would
    all be done everywhere, and a batched eigh hangs in a program of several CPU devices.
    """
    return _batched(partial(_spread, function, mesh))(*stacks)


def _spread(function: Callable[..., Result], mesh: AbstractMesh, *stacks: jax.Array) -> Result:
    shape = stacks[0].shape[:-2]
    count = math.prod(shape)
    num_rounds = -(-count // mesh.size)

    def share(*stacks: jax.Array) -> Any:
        matrices = [stack.reshape(count, *stack.shape[-2:]) for stack in stacks]
        first = jax.lax.axis_index(mesh.axis_names)
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

        done = jax.lax.map(one, jnp.arange(num_rounds))
        mine = first + jnp.arange(num_rounds) * mesh.size

        def collect(leaf: jax.Array) -> jax.Array:
            everywhere = jnp.zeros((count, *leaf.shape[1:]), leaf.dtype)
            everywhere = everywhere.at[mine].set(leaf, mode="drop")
            everywhere = jax.lax.psum(everywhere, mesh.axis_names)
            return everywhere.reshape(*shape, *leaf.shape[1:])

        return jax.tree.map(collect, done)

    specs = PartitionSpec()
    mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=False)
    return jax.jit(mapped)(*(_lay_out(stack, mesh, specs) for stack in stacks))


def _batched(operation: Callable[..., Result]) -> Callable[..., Result]:
    """The operation, to which the axis of a ``vmap`` is one more in front."""
    mapped = jax.custom_batching.custom_vmap(operation)

    @mapped.def_vmap
    def rule(size: int, is_batched: list[bool], *arrays: jax.Array) -> tuple[Result, Any]:
        wide = (
            array if batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, batched in zip(arrays, is_batched, strict=True)
        )
        result = _batched(operation)(*wide)
        return result, jax.tree.map(lambda _: True, result)

    return mapped


def _gram(w: jax.Array, *, layout: Layout) -> jax.Array:
    w = _whole_rows(w, layout)
    part = jnp.einsum("...ni,...nj->...ij", w, w, precision=HIGHEST)
    return _everywhere(part, layout.rows + layout.cols, layout)


def _squared_column_norms(w: jax.Array, V: jax.Array, *, layout: Layout) -> jax.Array:
    if V.shape[-1] < w.shape[-1]:
        product, summed = _few_columns(w, V, layout), layout.rows
    else:
        product = jnp.matmul(_whole_rows(w, layout), V, precision=HIGHEST)
        summed = layout.rows + layout.cols
    return _everywhere(jnp.sum(product * product, axis=-2), summed, layout)


def _gram_times(w: jax.Array, V: jax.Array, *, layout: Layout) -> jax.Array:
    product = _few_columns(w, V, layout)
    back = jnp.einsum("...nm,...nk->...mk", w, product, precision=HIGHEST)
    back = _gathered(back, layout.cols, back.ndim - 2)
    return _everywhere(back, layout.rows, layout)


def _times(w: jax.Array, A: jax.Array, B: jax.Array, *, layout: Layout) -> jax.Array:
    if A.shape[-1] < w.shape[-1]:
        product = _few_columns(w, A, layout)
        return jnp.einsum("...nk,...mk->...nm", product, _own_rows(B, w, layout), precision=HIGHEST)
    rows = _whole_rows(w, layout)
    if rows.shape[-2] < rows.shape[-1]:
        product = jnp.matmul(rows, A, precision=HIGHEST)
        product = jnp.einsum("...nk,...mk->...nm", product, B, precision=HIGHEST)
    else:
        middle = jnp.einsum("...mk,...lk->...ml", A, B, precision=HIGHEST)
        product = jnp.matmul(rows, middle, precision=HIGHEST)
    if not layout.cols:
        return product
    product = jax.lax.all_to_all(
        product, layout.cols, product.ndim - 1, product.ndim - 2, tiled=True
    )
    return product[..., : w.shape[-2], :]


def _whole_rows(w: jax.Array, layout: Layout) -> jax.Array:
    """Exchanges a block's part of each row for all of some rows, with zero rows where none is."""
    if not layout.cols:
        return w
    num_devices = jax.lax.axis_size(layout.cols)
    padding = [(0, 0)] * w.ndim
    padding[-2] = (0, -w.shape[-2] % num_devices)
    return jax.lax.all_to_all(jnp.pad(w, padding), layout.cols, w.ndim - 2, w.ndim - 1, tiled=True)


def _few_columns(w: jax.Array, V: jax.Array, layout: Layout) -> jax.Array:
    """A block's rows of W V, of columns so few that summing them is cheaper than moving W."""
    return jax.lax.psum(jnp.matmul(w, _own_rows(V, w, layout), precision=HIGHEST), layout.cols)


def _own_rows(V: jax.Array, w: jax.Array, layout: Layout) -> jax.Array:
    """The rows of V that meet a block's columns."""
    if not layout.cols:
        return V
    size = w.shape[-1]
    return jax.lax.dynamic_slice_in_dim(V, jax.lax.axis_index(layout.cols) * size, size, -2)


def _everywhere(part: jax.Array, names: Names, layout: Layout) -> jax.Array:
    """The sum of the parts of each matrix over some mesh axes, for all matrices."""
    total = jax.lax.psum(part, names)
    for axis, cut in enumerate(layout.batch):
        total = _gathered(total, cut, axis)
    return total


def _gathered(part: jax.Array, names: Names, axis: int) -> jax.Array:
    return jax.lax.all_gather(part, names, axis=axis, tiled=True) if names else part


def _on_blocks(
    product: Callable[..., jax.Array], like_W: bool, W: jax.Array, *small: jax.Array
) -> jax.Array:
    mesh = mesh_of(W)
    if mesh is None:
        return product(W, *small, layout=_layout(PartitionSpec(), W.ndim))
    if AxisType.Auto in mesh.axis_types:
        return _AUTO[product](W, *small)
    spec = jax.typeof(W).sharding.spec
    layout = _layout(spec, W.ndim)
    batch = PartitionSpec(*spec[: W.ndim - 2])
    mapped = jax.shard_map(
        partial(product, layout=layout),
        mesh=mesh,
        in_specs=(spec, *(batch for _ in small)),
        out_specs=spec if like_W else PartitionSpec(),
        check_vma=False,
    )
    return jax.jit(mapped)(W, *(_lay_out(matrix, mesh, batch) for matrix in small))


def _layout(spec: PartitionSpec, ndim: int) -> Layout:
    entries = tuple(spec) + (None,) * (ndim - len(spec))
    names = [
        () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
        for entry in entries
    ]
    return Layout(tuple(names[:-2]), names[-2], names[-1])


def _lay_out(array: jax.Array, mesh: AbstractMesh, spec: PartitionSpec) -> jax.Array:
    """The array under the sharding that shard_map demands of Explicit axes, and asks of Auto."""
    return jax.reshard(array, NamedSharding(mesh, spec)) if _is_explicit(mesh) else array


def _is_explicit(mesh: AbstractMesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


def _for_partitioner(product: Callable[..., jax.Array], like_W: bool) -> Callable[..., jax.Array]:
    """The product as an operation that the compiler's partitioner asks us to cut up."""

    def whole(W: jax.Array, *small: jax.Array) -> jax.Array:
        return product(W, *small, layout=_layout(PartitionSpec(), W.ndim))

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        W, *small = arguments
        spec = _even(W, mesh)
        batch = NamedSharding(mesh, PartitionSpec(*spec[: len(W.shape) - 2]))
        lying = NamedSharding(mesh, spec)

        def on_block(*blocks: jax.Array) -> jax.Array:
            # The partitioner's thread knows nothing of an enable_x64 around the call.
            with jax.enable_x64(W.dtype.itemsize == 8):
                return product(*blocks, layout=_layout(spec, len(W.shape)))

        return (
            mesh,
            on_block,
            lying if like_W else NamedSharding(mesh, PartitionSpec()),
            (lying, *(batch for _ in small)),
        )

    def rule(mesh: Any, arguments: Any, results: Any) -> str:
        del mesh
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        factors = [[next(letters) for _ in argument.shape] for argument in arguments]
        (result,) = results
        factors_out = factors[0] if like_W else [next(letters) for _ in result.shape]
        joined = ", ".join(" ".join(names) for names in factors)
        return f"{joined} -> {' '.join(factors_out)}"

    operation = custom_partitioning(whole)
    operation.def_partition(partition, sharding_rule=rule)
    return jax.jit(operation)


def _even(W: Any, mesh: Any) -> PartitionSpec:
    """W's sharding, without the axes that would leave the devices blocks of different sizes."""
    if not isinstance(W.sharding, NamedSharding):
        return PartitionSpec(*(None for _ in W.shape))
    entries = tuple(W.sharding.spec) + (None,) * (len(W.shape) - len(W.sharding.spec))
    names = [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in entries]
    sizes = [math.prod(mesh.shape[name] for name in group) for group in names]
    return PartitionSpec(
        *(
            group if group and length % size == 0 else None
            for group, length, size in zip(names, W.shape, sizes, strict=True)
        )
    )


_AUTO = {
    _gram: _for_partitioner(_gram, False),
    _squared_column_norms: _for_partitioner(_squared_column_norms, False),
    _gram_times: _for_partitioner(_gram_times, False),
    _times: _for_partitioner(_times, True),
}
