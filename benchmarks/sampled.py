"""Bias, spread and cost of sampled(alpha) against alpha of the whole matrix.

    python -m benchmarks.sampled [--side 4096] [--length 11008] [--keys 3]

The matrices are as wide as those that are too wide to decompose at every step.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import spectral_reg as sr

BLOCKS = ((16, 256), (4, 512), (16, 512))


def ensembles(side: int, length: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Square and long matrices: noise, noise with structure, and two kinds of heavy tail."""
    rng = np.random.default_rng(seed)

    def noise(rows: int, cols: int) -> np.ndarray:
        return rng.standard_normal((rows, cols), np.float32)

    yield "Gaussian", noise(side, side)
    spikes = noise(side, 16) @ noise(16, side) / np.float32(np.sqrt(side))
    yield "Gaussian + 16 spikes", noise(side, side) + 2 * spikes
    yield "Student t, 2.5", rng.standard_t(2.5, (side, side)).astype(np.float32)
    left, right = (np.linalg.qr(noise(side, side))[0] for _ in range(2))
    # An eigenvalue density l^-3 has quantiles u^(-1/2), hence singular values u^(-1/4).
    quantiles = (np.arange(side, dtype=np.float32) + 0.5) / side
    yield "power law, 3", (left * quantiles**-0.25) @ right.T
    yield "Gaussian, long", noise(length, side)
    yield "Student t, 2.5, long", rng.standard_t(2.5, (length, side)).astype(np.float32)


def timed(function: Callable, *arguments: jax.Array) -> tuple[jax.Array, jax.Array, float]:
    """Value, gradient and the CPU seconds of all threads: steadier than the clock's seconds."""
    start = time.process_time()
    value, gradient = jax.block_until_ready(function(*arguments))
    return value, gradient, time.process_time() - start


def on_blocks(**blocks: float) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Value and gradient of the sampled alpha, of a matrix and a key."""

    def alpha(W: jax.Array, key: jax.Array) -> jax.Array:
        return sr.sampled(sr.alpha, key=key, **blocks)(W)

    return jax.jit(jax.value_and_grad(alpha))


def cosine(a: jax.Array, b: jax.Array) -> float:
    """Cosine of the angle between two gradients."""
    return float(jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--length", type=int, default=11008, help="longer side of the long ones")
    parser.add_argument("--keys", type=int, default=3, help="keys to take the spread over")
    options = parser.parse_args()
    print(f"{options.side} x {options.side}, and {options.length} x {options.side} where long")
    print(f"{'matrix':22}{'blocks':>10}{'aspect':>7}{'alpha':>8}{'sampled':>9}{'bias':>7}", end="")
    print(f"{'sd':>7}{'cosine':>8}{'s':>8}{'s whole':>9}{'ratio':>7}")
    whole = jax.jit(jax.value_and_grad(sr.alpha))
    for name, matrix in ensembles(options.side, options.length, seed=0):
        W = jnp.asarray(matrix)
        # Once is enough at this size, so what is timed is compiled before.
        exact, gradient, whole_time = timed(whole.lower(W).compile(), W)
        shape = W.shape[0] / W.shape[1]
        for aspect in sorted({1.0, shape}):
            for num_blocks, size in BLOCKS:
                blocks = {"num_blocks": num_blocks, "size": size, "aspect": aspect}
                of_blocks = on_blocks(**blocks)
                of_blocks(W, jax.random.key(0))
                values, times, cosines = [], [], []
                for seed in range(options.keys):
                    value, sampled_gradient, seconds = timed(of_blocks, W, jax.random.key(seed))
                    values.append(float(value))
                    times.append(seconds)
                    cosines.append(cosine(gradient, sampled_gradient))
                print(
                    f"{name:22}{f'{num_blocks} x {size}':>10}{aspect:7.2f}{float(exact):8.3f}"
                    f"{np.mean(values):9.3f}{np.mean(values) - float(exact):7.3f}"
                    f"{np.std(values):7.3f}{np.mean(cosines):8.2f}{min(times):8.2f}"
                    f"{whole_time:9.1f}{min(times) / whole_time:7.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
