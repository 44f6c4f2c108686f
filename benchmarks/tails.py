"""What the tail of a spectrum costs, beside an exact decomposition and warm tracking.

    python -m benchmarks.tails [--shapes 4096x384,1024x4096,4096x4096] [--fraction 0.1]

The update of a penalty of one matrix with a heavy tail that moves by 0.3 % at every step, in turns.
Processor seconds of all threads, the quickest step of each: a busy machine changes them less than
it changes wall-clock time. Value and gradient of Hill's estimator of the top fraction by its tail;
exactly, by one float32 Gram matrix and its decomposition; and alpha, tracked whole.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr

WAYS = ("tail", "exact", "alpha, warm")
NOISE = 0.003


def penalties(fraction: float) -> dict[str, optax.GradientTransformation]:
    """The three ways."""
    top = sr.spectral_metric(sr.smooth_hill(low=fraction / 5, high=fraction))
    return {
        "tail": sr.add_spectral_penalty(top, 1.0, tracking="tail"),
        "exact": sr.add_spectral_penalty(top, 1.0),
        "alpha, warm": sr.add_spectral_penalty(sr.alpha, 1.0, tracking="warm"),
    }


def heavy(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A matrix whose singular values follow a power law of their rank."""
    size = min(shape)
    sides = [np.linalg.qr(rng.standard_normal((side, size), np.float32))[0] for side in shape]
    values = ((np.arange(size) + 0.5) / size) ** -0.3
    return ((sides[0] * values.astype(np.float32)) @ sides[1].T).astype(np.float32)


def measure(
    shape: tuple[int, int], fraction: float, ways: list[str], num_steps: int
) -> dict[str, float]:
    """Processor seconds of the quickest step of each penalty."""
    rng = np.random.default_rng(0)
    W = heavy(shape, rng)
    deviation = W.std()
    states: dict[str, Any] = {}
    chosen = {name: penalties(fraction)[name] for name in ways}
    updates = {name: jax.jit(penalty.update) for name, penalty in chosen.items()}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(num_steps + 1):
        params = {"fc": {"kernel": jnp.asarray(W)}}
        zeros = jax.tree.map(jnp.zeros_like, params)
        for name, penalty in chosen.items():
            state = states[name] if name in states else penalty.init(params)
            start = time.process_time()
            _, states[name] = jax.block_until_ready(updates[name](zeros, state, params))
            seconds[name].append(time.process_time() - start)
        W = W + NOISE * deviation * rng.standard_normal(shape, np.float32)
    # The first step compiles, and starts the tracking.
    return {name: min(times[1:]) for name, times in seconds.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="4096x384,1024x4096,4096x4096")
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; processor seconds")
    print(f"{'W':14}" + "".join(f"{name:>14}" for name in options.ways))
    for text in options.shapes.split(","):
        rows, cols = map(int, text.split("x"))
        seconds = measure((rows, cols), options.fraction, options.ways, options.steps)
        cells = "".join(f"{seconds[name]:14.4f}" for name in options.ways)
        print(f"{text:14}{cells}", flush=True)


if __name__ == "__main__":
    main()
