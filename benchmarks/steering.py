"""Does the exact fit confirm the exponent that a loss was asked for?

    python -m benchmarks.steering --data-dir FOLDER [--runs 100] [--adam-runs 20 5 2 1 1 1]

Each run takes a matrix, random or trained, and descends on one loss alone; then CSN's fit says what
became of the spectrum. A run is confirmed where alpha lies within 0.1 of the target, or within one
standard error if that is larger, with a p-value above 0.1 and a valid fit. The losses that are not
recommended have a tenth of the runs.

SGD with momentum does not turn the singular vectors, for a gradient of a function of the
eigenvalues is U diag V^T: its runs are on the singular values alone, which is exact and needs no
decomposition (a test holds it against the matrix). Its learning rate is a tenth of what the
curvature of the loss at the start allows. Adam runs on the matrix, at a hundredth of the root mean
square of its elements, falling to zero.

Every finished row is a line of a file; the same command goes on from there.
"""

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import fitting
from benchmarks.steering_losses import LOSSES, RECOMMENDED, Metric
from benchmarks.trained_matrices import trained_matrices

SHAPES = ((64, 64), (384, 192), (512, 256), (4096, 384), (768, 768), (3072, 768))
TARGETS = (2.0, 2.5, 3.0, 4.0)
ADAM_STEPS, SGD_STEPS = 300, 1000
NOISE = 0.01  # of a trained matrix' norm, so that its runs differ
MATRIX_LOSSES = tuple(LOSSES)[:9]


def adam(W: jax.Array, metric: Metric) -> jax.Array:
    """The matrix after `ADAM_STEPS` of Adam on the matrix."""
    rate = 0.01 * jnp.sqrt(jnp.mean(W**2))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, ADAM_STEPS))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        W, state = carry
        updates, state = optimizer.update(jax.grad(metric)(W), state)
        return (optax.apply_updates(W, updates), state), None

    (W, _), _ = jax.lax.scan(step, (W, optimizer.init(W)), length=ADAM_STEPS)
    return W


def value_of(metric: Metric) -> Callable[[jax.Array], jax.Array]:
    """The metric as a function of the singular values, in any order."""
    return lambda sigma: metric.of_eigenvalues(jnp.sort(sigma**2)[::-1])


def learning_rate(sigma: jax.Array, metric: Metric) -> jax.Array:
    """A tenth of what the largest curvature allows; by power iteration on Hessian times vector."""
    gradient = jax.grad(value_of(metric))

    def climb(vector: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        image = jax.jvp(gradient, (sigma,), (vector,))[1]
        length = jnp.linalg.norm(image)
        return image / jnp.where(length > 0, length, 1), length

    start = jnp.cos(jnp.arange(sigma.size, dtype=sigma.dtype))
    _, lengths = jax.lax.scan(climb, start / jnp.linalg.norm(start), length=30)
    return 0.1 * 2 / lengths[-1]


def sgd(sigma: jax.Array, metric: Metric, num_steps: int = SGD_STEPS) -> jax.Array:
    """Singular values after SGD with momentum on a matrix that has these."""
    rate, gradient = learning_rate(sigma, metric), jax.grad(value_of(metric))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        sigma, velocity = carry
        velocity = 0.9 * velocity + gradient(sigma)
        return (jnp.abs(sigma - rate * velocity), velocity), None

    (sigma, _), _ = jax.lax.scan(step, (sigma, jnp.zeros_like(sigma)), length=num_steps)
    return sigma


def starts(shape: tuple[int, int], trained: np.ndarray | None, num: int) -> list[np.ndarray]:
    """Random matrices, or trained ones with a little noise."""
    found = []
    for seed in range(num):
        noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        if trained is None:
            found.append(noise / np.sqrt(max(shape)))
        else:
            found.append(trained + NOISE * np.linalg.norm(trained) / noise.size**0.5 * noise)
    return found


def judge(sigma: np.ndarray, target: float) -> dict[str, Any]:
    """What the exact fit says."""
    if not np.isfinite(sigma).all():
        return {"alpha": None, "p": 0.0, "tail": 0, "confirmed": False}
    eigenvalues = np.sort(np.asarray(sigma, float) ** 2)[::-1]
    fit = fitting.fit_power_law(eigenvalues)
    if not fit.valid:
        return {"alpha": None, "p": 0.0, "tail": 0, "confirmed": False}
    p = fitting.goodness_of_fit(eigenvalues, fit, num_bootstrap=200)
    near = abs(fit.alpha - target) <= max(0.1, fit.sigma)
    return {
        "alpha": fit.alpha,
        "p": p,
        "tail": fit.num_tail,
        "confirmed": bool(near and p > 0.1),
    }


def singular_values(W: np.ndarray) -> np.ndarray:
    """Those of a matrix, in float64."""
    return np.linalg.svd(np.asarray(W, float), compute_uv=False)


def work(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows that are wanted."""
    adam_runs = dict(zip(SHAPES, options.adam_runs, strict=True))
    rows = [
        {"optimizer": optimizer, "shape": shape, "start": start, "loss": loss, "target": target}
        for optimizer in ("sgd", "adam")
        for shape, start, loss, target in itertools.product(
            options.shapes, options.starts, options.losses or LOSSES, TARGETS
        )
    ]
    for row in rows:
        runs = options.runs if row["optimizer"] == "sgd" else adam_runs[row["shape"]]
        if row["loss"] != RECOMMENDED:
            runs = -(-runs // 10)
        row["runs"] = runs
    return [
        row
        for row in rows
        if row["runs"] and (row["optimizer"] == "sgd" or row["loss"] in MATRIX_LOSSES)
    ]


class Runner:
    """Descends from every start of a row, and judges each end."""

    def __init__(self, trained: dict[tuple[int, int], np.ndarray]):
        self.trained = trained
        self.spectra: dict[tuple, np.ndarray] = {}

    def starts(self, row: dict[str, Any]) -> list[np.ndarray]:
        """The matrices of a row."""
        trained = self.trained[row["shape"]] if row["start"] == "trained" else None
        return starts(row["shape"], trained, row["runs"])

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """What the exact fit says of each run."""
        metric = LOSSES[row["loss"]](row["target"])
        if row["optimizer"] == "adam":
            descend = jax.jit(lambda W: adam(W, metric))
            ends = [singular_values(descend(jnp.asarray(W))) for W in self.starts(row)]
        else:
            key = (row["shape"], row["start"], row["runs"])
            if key not in self.spectra:
                self.spectra[key] = np.stack([singular_values(W) for W in self.starts(row)])
            descend = jax.jit(jax.vmap(lambda sigma: sgd(sigma, metric)))
            # In parts, for a search for xmin takes M^2 numbers a run.
            parts = np.array_split(self.spectra[key], max(1, row["runs"] // 10))
            ends = [end for part in parts for end in np.asarray(descend(jnp.asarray(part)))]
        return [judge(end, row["target"]) for end in ends]


def print_table(done: dict[str, list[dict[str, Any]]]) -> None:
    """Of each loss the share of confirmed runs, and the medians of alpha and p by target."""
    groups: dict[tuple, dict[float, list]] = defaultdict(lambda: defaultdict(list))
    for key, results in done.items():
        row = json.loads(key)
        group = (row["optimizer"], tuple(row["shape"]), row["start"], row["loss"])
        groups[group][row["target"]] = results
    print("| optimizer | matrix | loss | runs | confirmed | alpha at 2 | 2.5 | 3 | 4 | p |")
    print("|" + "---|" * 10)
    for (optimizer, shape, start, loss), targets in groups.items():
        every = [result for results in targets.values() for result in results]
        cells = []
        for target in TARGETS:
            alphas = [r["alpha"] for r in targets.get(target, []) if r["alpha"] is not None]
            cells.append(f"{np.median(alphas):.2f}" if alphas else "")
        share = np.mean([result["confirmed"] for result in every])
        p = np.median([result["p"] for result in every])
        matrix = f"{start} {shape[0]} x {shape[1]}"
        print(f"| {optimizer} | {matrix} | {loss} | {len(every)} | {share:.0%} | ", end="")
        print(" | ".join(cells), f"| {p:.2f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/steering"))
    parser.add_argument("--runs", type=int, default=100, help="runs by SGD from each start")
    parser.add_argument(
        "--adam-runs",
        type=int,
        nargs=len(SHAPES),
        default=[20, 5, 2, 1, 1, 1],
        help="runs by Adam at each shape: " + ", ".join(f"{n} x {m}" for n, m in SHAPES),
    )
    parser.add_argument(
        "--starts", nargs="*", default=("random", "trained"), choices=("random", "trained")
    )
    parser.add_argument(
        "--shapes",
        nargs="*",
        default=SHAPES,
        type=lambda text: tuple(int(side) for side in text.split("x")),
        help="such as 64x64; default: all",
    )
    parser.add_argument("--losses", nargs="*", choices=LOSSES, help="default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    options = parser.parse_args(arguments)
    trained = trained_matrices(options.data_dir, options.out / "trained.npz")
    path, done = options.out / "rows.jsonl", {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            done[record["row"]] = record["results"]
    run = Runner(trained)
    wanted, end = work(options), time.monotonic() + options.seconds
    for row in tqdm(wanted, desc="rows", mininterval=10):
        key = json.dumps(row)
        if key not in done and time.monotonic() < end:
            done[key] = run(row)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"row": key, "results": done[key]}) + "\n")
    keys = [json.dumps(row) for row in wanted]
    print_table({key: done[key] for key in keys if key in done})


if __name__ == "__main__":
    main()
