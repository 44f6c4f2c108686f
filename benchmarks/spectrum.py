"""Value and gradient of alpha three ways: tracked, by eigh, and by autodiff through svd.

    python -m benchmarks.spectrum

A matrix drifts as in training, by 0.3 % noise and a direction of rank one a step. Each way meets
the same matrices, in turns, in float32; the floor is what tracking multiplies, alone. Errors are
those of the value and of the gradient's direction against float64. A second table holds layers of
one shape, decomposed as a batch, against the same layers one after another in one program.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import spectral_reg as sr
from benchmarks.turns import in_turns, timed
from spectral_reg._tracking import no_vectors, tracked_eigenvalues

SHAPES = ((768, 192), (4096, 384), (4096, 1024), (4096, 2048))
BATCHES = ((8, 32, 32), (8, 256, 64), (4, 768, 192), (4, 1536, 384))
SHARPEST = jax.lax.Precision.HIGHEST
# Products of M x M that one sweep of tracking, its eigenvalues and their gradient take.
NUM_PRODUCTS = 9


def drift(shape: tuple[int, int], num_steps: int) -> list[np.ndarray]:
    """The weights of some steps."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal(shape) / np.sqrt(shape[0])
    left, right = (rng.standard_normal(size) / np.sqrt(size) for size in shape)
    steps = []
    for _ in range(num_steps):
        steps.append(W.astype(np.float32))
        W = W + 0.003 * W.std() * rng.standard_normal(shape) + 0.01 * np.outer(left, right)
    return steps


def naive_alpha(W: jax.Array) -> jax.Array:
    """Alpha as autodiff through the singular value decomposition gives it."""
    return sr.smooth_hill()(jnp.linalg.svd(W, full_matrices=False)[1] ** 2)


@jax.jit
def tracked(W: jax.Array, V: jax.Array) -> Any:
    """Alpha, its gradient, and the vectors for the next step."""

    def alpha(W: jax.Array) -> tuple[jax.Array, jax.Array]:
        eigenvalues, followed = tracked_eigenvalues(W, V)
        return sr.alpha.of_eigenvalues(eigenvalues), followed

    (value, followed), gradient = jax.value_and_grad(alpha, has_aux=True)(W)
    return value, gradient, followed


@jax.jit
def by_eigh(W: jax.Array, V: jax.Array) -> Any:
    """Alpha and its gradient as the library gives them without a state."""
    return *jax.value_and_grad(sr.alpha)(W), V


@jax.jit
def by_svd(W: jax.Array, V: jax.Array) -> Any:
    """Alpha and its gradient by autodiff through the singular value decomposition."""
    return *jax.value_and_grad(naive_alpha)(W), V


def tracking_products(W: jax.Array, V: jax.Array) -> jax.Array:
    """The products of tracking alone: [M, M] ones between the two that pass over W."""
    A = jnp.matmul(W.T, W, precision=SHARPEST)
    for _ in range(NUM_PRODUCTS):
        A = jnp.matmul(V, A, precision=SHARPEST)
    return jnp.matmul(W, A, precision=SHARPEST)


@jax.jit
def floor(W: jax.Array, V: jax.Array) -> Any:
    """What tracking cannot do without."""
    return jnp.zeros(()), tracking_products(W, V), V


WAYS: dict[str, Callable[[jax.Array, jax.Array], Any]] = {
    "products alone": floor,
    "tracked": tracked,
    "eigh": by_eigh,
    "autodiff svd": by_svd,
}


def measure(shape: tuple[int, int], num_steps: int) -> None:
    """Prints the lines of one shape."""
    steps = drift(shape, num_steps + 1)
    start = no_vectors(jnp.asarray(steps[0]))
    vectors = dict.fromkeys(WAYS, start)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    last = {}
    for count, weights in enumerate(tqdm(steps, desc=f"{shape}", leave=False)):
        W = jnp.asarray(weights)
        for name, way in WAYS.items():
            begin = time.perf_counter()
            last[name] = jax.block_until_ready(way(W, vectors[name]))
            vectors[name] = last[name][2]
            if count:  # the first call compiles
                seconds[name].append(time.perf_counter() - begin)
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(sr.alpha)(jnp.asarray(steps[-1], jnp.float64))
    base = np.array(seconds["tracked"])
    for name, times in seconds.items():
        ratio = np.median(np.array(times) / base)
        line = f"{shape[0]:5} x {shape[1]:4}  {name:15}{np.median(times) * 1e3:9.1f}{ratio:9.2f}"
        if name != "products alone":
            found, direction, _ = last[name]
            direction = np.asarray(direction, np.float64)
            cosine = np.vdot(direction, gradient) / (
                np.linalg.norm(direction) * np.linalg.norm(gradient)
            )
            line += f"{abs(float(found) - float(value)):12.1e}{1 - cosine:12.1e}"
        print(line, flush=True)


def measure_batch(shape: tuple[int, int, int], num_rounds: int) -> None:
    """Prints the line of some layers of one shape."""
    stack = jax.random.normal(jax.random.key(0), shape)
    layers = list(stack)
    together = jax.jit(jax.value_and_grad(lambda stack: jnp.sum(sr.alpha(stack))))
    one_by_one = jax.jit(jax.value_and_grad(lambda layers: sum(sr.alpha(W) for W in layers)))
    runs = {"batch": timed(lambda: together(stack)), "alone": timed(lambda: one_by_one(layers))}
    batch, alone = in_turns(runs, num_rounds, steps=1).values()
    print(
        f"{shape[0]} of {shape[1]:4} x {shape[2]:3}{np.median(batch) * 1e3:10.1f}"
        f"{np.median(alone) * 1e3:12.1f}{np.median(batch / alone):8.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(
        f"{'W':14}{'value and gradient':18}{'ms':>6}{'/tracked':>9}{'error':>12}{'1 - cosine':>12}"
    )
    for shape in SHAPES:
        measure(shape, options.steps)
    print(f"\n{'alpha by eigh':15}{'batch, ms':>10}{'in turn, ms':>12}{'ratio':>8}")
    for batch in BATCHES:
        measure_batch(batch, options.steps)


if __name__ == "__main__":
    main()
