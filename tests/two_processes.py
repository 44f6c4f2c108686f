"""One of two processes that hold a model together; test_sharding.py starts both."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import spectral_reg as sr


def main(port: str, rank: str) -> None:
    """Holds the penalty and its gradient against those of one device."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(rank))
    assert len(jax.devices()) == 4
    assert len(jax.local_devices()) == 2
    W = np.random.default_rng(0).standard_normal((5, 32, 96)).astype(np.float32)
    expected, gradient = jax.value_and_grad(lambda W: jnp.sum(sr.alpha(W)))(jnp.asarray(W))
    gradient = np.asarray(gradient)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((4,), ("x",), axis_types=(kind,))
        for spec in (PartitionSpec(None, "x", None), PartitionSpec(None, None, "x")):
            zeros, params = (
                {
                    "mlp": {
                        "kernel": jax.make_array_from_callback(
                            W.shape, NamedSharding(mesh, spec), array.__getitem__
                        )
                    }
                }
                for array in (np.zeros_like(W), W)
            )
            for tracking in ("exact", "warm"):
                transformation = sr.add_spectral_penalty(sr.alpha, 1.0, tracking=tracking)
                with jax.set_mesh(mesh):
                    state = jax.jit(transformation.init)(params)
                    updates, state = jax.jit(transformation.update)(zeros, state, params)
                np.testing.assert_allclose(float(state.penalty), float(expected), rtol=1e-5)
                for shard in updates["mlp"]["kernel"].addressable_shards:
                    error = np.linalg.norm(np.asarray(shard.data) - gradient[shard.index])
                    assert error <= 1e-5 * np.linalg.norm(gradient)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
