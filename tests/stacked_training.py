"""Trains the six stacked kernels of a transformer of 24 blocks; run by test_stacks.py."""

import sys

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr

BLOCKS, WIDTH, STEPS = 24, 128, 3
SHAPES = {
    "query": (WIDTH, WIDTH),
    "key": (WIDTH, WIDTH),
    "value": (WIDTH, WIDTH),
    "out": (WIDTH, WIDTH),
    "up": (WIDTH, 4 * WIDTH),
    "down": (4 * WIDTH, WIDTH),
}


def main(seed: str) -> None:
    """Ends, or hangs."""
    keys = jax.random.split(jax.random.key(int(seed)), len(SHAPES))
    params = {
        name: {"kernel": jax.random.normal(key, (BLOCKS, *shape))}
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.log_stable_rank, 1e-2, tracking="warm"),
        sr.add_spectral_penalty(sr.alpha, 1e-2),
        optax.adamw(1e-3),
    )
    state, zeros = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(zeros, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state)
    jax.block_until_ready(params)


if __name__ == "__main__":
    main(*sys.argv[1:])
