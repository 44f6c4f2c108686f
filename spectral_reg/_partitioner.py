"""Products on blocks, as operations that the compiler's partitioner asks us to cut up."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from ._blocks import layout_of, names_of


def for_partitioner(product: Callable[..., jax.Array], like_W: bool) -> Callable[..., jax.Array]:
    """The product as an operation that the compiler's partitioner asks us to cut up."""

    def whole(W: jax.Array, *small: jax.Array) -> jax.Array:
        return product(W, *small, layout=layout_of(PartitionSpec(), W.ndim))

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        W, *small = arguments
        spec = _even(W, mesh)
        batch = NamedSharding(mesh, PartitionSpec(*spec[: len(W.shape) - 2]))
        lying = NamedSharding(mesh, spec)

        def on_block(*blocks: jax.Array) -> jax.Array:
            # The partitioner's thread knows nothing of an enable_x64 around the call.
            with jax.enable_x64(jnp.finfo(W.dtype).bits == 64):
                return product(*blocks, layout=layout_of(spec, len(W.shape)))

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
    names = names_of(W.sharding.spec, len(W.shape))
    sizes = [math.prod(mesh.shape[name] for name in group) for group in names]
    return PartitionSpec(
        *(
            group if group and length % size == 0 else None
            for group, length, size in zip(names, W.shape, sizes, strict=True)
        )
    )
