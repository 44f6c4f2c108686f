"""Bias, spread and cost of sampled(alpha) against alpha of the whole matrix.

python -m benchmarks.sampled [--side 2048] [--repeats 3]
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import spectral_reg as sr


def ensembles(side: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Square and long matrices: noise, noise with structure, and heavy-tailed entries."""
    noise = rng.standard_normal((side, side))
    spikes = rng.standard_normal((side, 16)) @ rng.standard_normal((16, side)) / np.sqrt(side)
    left, _ = np.linalg.qr(rng.standard_normal((side, side)))
    right, _ = np.linalg.qr(rng.standard_normal((side, side)))
    # An eigenvalue density l^-3 has quantiles u^(-1/2), hence singular values u^(-1/4).
    power_law = (left * ((np.arange(side) + 0.5) / side) ** -0.25) @ right.T
    return {
        "gaussian": noise,
        "gaussian, Q = 4": rng.standard_normal((side, side // 4)),
        "gaussian + 16 spikes": noise + 2 * spikes,
        "student t, 3": rng.standard_t(3, (side, side)),
        "power law, 3": power_law,
    }


def timed(function: Callable[[jax.Array], tuple[jax.Array, jax.Array]], W: jax.Array) -> float:
    """The least of three times of a value and gradient, in milliseconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(function(W))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3, help="keys to take the spread over")
    options = parser.parse_args()
    print(f"side {options.side}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(f"{'matrix':22}{'blocks':>12}{'alpha':>8}{'sampled':>9}{'bias':>7}{'sd':>7}", end="")
    print(f"{'cosine':>8}{'ms':>9}{'ms whole':>10}{'ratio':>7}")
    for name, matrix in ensembles(options.side, np.random.default_rng(0)).items():
        W = jnp.asarray(matrix, jnp.float32)
        whole = jax.jit(jax.value_and_grad(sr.alpha))
        exact, gradient = jax.block_until_ready(whole(W))
        whole_time = timed(whole, W)
        for num_blocks, size in ((4, 256), (16, 256), (8, 512)):
            if size > min(W.shape):
                continue
            values, times, cosines = [], [], []
            for seed in range(options.repeats):
                metric = sr.sampled(
                    sr.alpha, key=jax.random.key(seed), num_blocks=num_blocks, size=size
                )
                function = jax.jit(jax.value_and_grad(metric))
                value, sampled_gradient = jax.block_until_ready(function(W))
                values.append(float(value))
                times.append(timed(function, W))
                product = jnp.vdot(gradient, sampled_gradient)
                norms = jnp.linalg.norm(gradient) * jnp.linalg.norm(sampled_gradient)
                cosines.append(float(product / norms))
            print(
                f"{name:22}{f'{num_blocks} x {size}':>12}{float(exact):8.3f}{np.mean(values):9.3f}"
                f"{np.mean(values) - float(exact):7.3f}{np.std(values):7.3f}"
                f"{np.mean(cosines):8.2f}{min(times):9.0f}{whole_time:10.0f}"
                f"{min(times) / whole_time:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
