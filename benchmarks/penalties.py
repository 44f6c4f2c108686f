"""What each penalty alone does to FC1 of MiniAlexNet on CIFAR-10, beside the run without it.

    python -m benchmarks.penalties --data-dir FOLDER [--figure FILE]

Every finished run is a file of its own; the same command goes on from there.
"""

import argparse
import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import tqdm

import fitting
import spectral_reg as sr
from examples.sweeping import cells
from examples.training import data
from examples.training.config import Config
from examples.training.steps import initial
from examples.training.training import train

LAYER = "fc1"
NUM_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Run(Config):
    """One training run.

    Attributes:
        form: "target", "above" or "below", with `value`, around the metric that `penalty` names;
            none if empty.
    """

    form: str = ""
    value: float = 0.0


PLAIN = Run("cifar10", train_size=2560, test_size=2000, batch_size=32, epochs=2)
# Strengths whose force is about a hundredth of what would turn the layer over in the run.
STRENGTHS = {
    "log_stable_rank": 0.05,
    "stable_rank": 3e-4,
    "log_stable_rank_ratio": 0.02,
    "spectral_norm": 0.05,
    "log_spectral_norm": 0.1,
    "lambda_max": 0.015,
    "log_frobenius_norm": 5.0,
    "matrix_entropy": 50.0,
    "alpha": 0.005,
    "alpha_hat": 0.002,
}
BOUNDED = (
    ("log_stable_rank", 0.2, "below", 5.3),
    ("spectral_norm", 0.2, "above", 1.9),
)
METRICS = {
    **{name: getattr(sr, name) for name in STRENGTHS},
    # Tails from 1 % on, where the default begins at 10 %.
    "broad_alpha": sr.spectral_metric(sr.smooth_hill(low=0.01)),
}
# Metric, strength and value. The first ones are trained with several seeds.
TARGETS = tuple(("alpha", 0.4, value) for value in (3.0, 5.0, 8.0))
BROAD_TARGETS = tuple(("broad_alpha", 0.03, value) for value in (3.0, 4.0))
NOTHING = "none"


def runs() -> list[Run]:
    """All runs: without a penalty, each metric lowered, those with a bound, and the targets."""
    change = functools.partial(dataclasses.replace, PLAIN)
    lowered = [change(penalty=name, strength=strength) for name, strength in STRENGTHS.items()]
    bounded = [
        change(penalty=name, strength=strength, form=form, value=value)
        for name, strength, form, value in BOUNDED
    ]
    targets, broad = (
        [
            change(penalty=name, strength=strength, form="target", value=value)
            for name, strength, value in chosen
        ]
        for chosen in (TARGETS, BROAD_TARGETS)
    )
    repeated = [
        dataclasses.replace(run, seed=seed)
        for seed, run in itertools.product(range(NUM_SEEDS), [PLAIN, *targets])
    ]
    return [*repeated, *broad, *lowered, *bounded]


def optimizer(run: Run) -> optax.GradientTransformation:
    """SGD with momentum, behind the penalty on FC1."""
    sgd = optax.sgd(run.learning_rate, momentum=run.momentum)
    if not run.penalty:
        return sgd
    metric = METRICS[run.penalty]
    if run.form == "target":
        metric = sr.target(metric, run.value)
    elif run.form:
        metric = sr.hinge(metric, **{run.form: run.value})
    mask = sr.by_path(f"{LAYER}/kernel")
    return optax.chain(sr.add_spectral_penalty(metric, run.strength, mask=mask), sgd)


def name_of(run: Run) -> str:
    """The penalty as one would write it."""
    if not run.penalty:
        return NOTHING
    if run.form == "target":
        return f"target({run.penalty}, {run.value:g})"
    return f"hinge({run.penalty}, {run.form}={run.value:g})" if run.form else run.penalty


def finish(run: Run, dataset: data.Dataset, folder: Path) -> None:
    """Trains one cell and writes its file; that of the plain run holds FC1 too."""
    start = time.perf_counter()
    outcome = train(run, dataset, optimizer=optimizer(run))
    arrays = dict(outcome.arrays)
    if run == PLAIN:
        arrays["kernel"] = np.asarray(outcome.state.params[LAYER]["kernel"])
    wall_time = time.perf_counter() - start
    cell = cells.Cell(run, outcome.metrics, arrays, wall_time, cells.origin())
    cells.write(folder, cell, label=f"{run.penalty or NOTHING}-{run.form}-seed{run.seed}")


def measure(metric: str, spectrum: np.ndarray) -> float:
    """A metric of a spectrum."""
    return float(METRICS[metric].of_eigenvalues(jnp.asarray(spectrum, jnp.float32)))


def print_effects(found: dict[Run, cells.Cell[Run]]) -> None:
    """One line a penalty: its metric at the start, at the end without and with it, and the cost."""
    without = found[PLAIN]
    print(f"\n{'penalty':34}{'strength':>9}{'start':>9}{'without':>9}{'with':>9}", end="")
    print(f"{'sigma':>7}{'norm':>7}{'alpha':>7}{'loss':>7}{'test':>7}")
    for run, cell in found.items():
        if run.seed or run.form == "target":
            continue
        metric = run.penalty or "alpha"
        start, end = cell.arrays[LAYER][0], cell.arrays[LAYER][-1]
        values = (measure(metric, at) for at in (start, without.arrays[LAYER][-1], end))
        print(f"{name_of(run):34}{run.strength:9g}", *(f"{value:8.3f}" for value in values), end="")
        print(
            f"{np.sqrt(end[0]):7.2f}{np.sqrt(end.sum()):7.2f}{measure('alpha', end):7.2f}", end=""
        )
        print(f"{cell.metrics['train_loss'][-1]:7.3f}{cell.metrics['final_test_accuracy']:7.3f}")


def print_targets(found: dict[Run, cells.Cell[Run]]) -> None:
    """Where alpha ends under `target`, at what loss, and what CSN's fit calls it."""
    print(
        f"\n{'penalty':23}{'seed':>5}{'alpha':>8}{'broad':>8}{'CSN':>8}{'tail':>5}{'p':>6}", end=""
    )
    print(f"{'loss':>8}{'ratio':>7}{'test':>7}{'norm':>7}")
    chosen = [run for run in found if run.form == "target" or not run.penalty]
    for run in sorted(chosen, key=lambda run: (run.penalty, run.value, run.seed)):
        cell, end = found[run], found[run].arrays[LAYER][-1]
        loss = cell.metrics["train_loss"][-1]
        without = found[dataclasses.replace(PLAIN, seed=run.seed)].metrics["train_loss"][-1]
        fit = fitting.fit_power_law(end)
        p = fitting.goodness_of_fit(end, fit, num_bootstrap=500)
        print(f"{name_of(run):23}{run.seed:5}{measure('alpha', end):8.3f}", end="")
        print(f"{measure('broad_alpha', end):8.3f}{fit.alpha:8.2f}{fit.num_tail:5}{p:6.2f}", end="")
        print(f"{loss:8.3f}{loss / without:7.2f}", end="")
        print(f"{cell.metrics['final_test_accuracy']:7.3f}{np.sqrt(end.sum()):7.2f}")


def print_cosines(kernels: dict[str, jax.Array]) -> None:
    """Cosine of the gradients of each pair of metrics: negative pulls against each other."""
    for where, W in kernels.items():
        gradients = [jax.jit(jax.grad(metric))(W).ravel() for metric in METRICS.values()]
        units = jnp.stack([gradient / jnp.linalg.norm(gradient) for gradient in gradients])
        print(f"\ncosines of gradients, FC1 {where}")
        for name, row in zip(METRICS, np.asarray(units @ units.T), strict=True):
            print(f"{name:22}", *(f"{cosine:6.2f}" for cosine in row))


def draw(found: dict[Run, cells.Cell[Run]], path: Path) -> None:
    """Draws FC1's eigenvalues by rank, without a penalty and with some, and at the targets."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    by_name = {name_of(run): cell for run, cell in reversed(found.items()) if not run.seed}
    lines = (
        ("log_stable_rank", "spectral_norm", "matrix_entropy", "log_frobenius_norm", "alpha"),
        [
            f"target({name}, {value:g})"
            for name, _, value in (TARGETS[0], TARGETS[1], *BROAD_TARGETS)
        ],
    )
    for panel, names in zip(panels, lines, strict=True):
        start = found[PLAIN].arrays[LAYER][0]
        ranks = np.arange(1, len(start) + 1)
        panel.loglog(ranks, start, color="0.7", label="untrained")
        panel.loglog(ranks, found[PLAIN].arrays[LAYER][-1], "k", label="no penalty")
        for name in names:
            if name in by_name:
                panel.loglog(ranks, by_name[name].arrays[LAYER][-1], label=name)
        panel.set_xlabel("rank of the eigenvalue")
        panel.legend(frameon=False, fontsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("eigenvalue of FC1")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the runs that are missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/penalties"))
    parser.add_argument("--figure", type=Path, help="draw the spectra into this file")
    options = parser.parse_args(arguments)
    wanted = runs()
    missing = [run for run in wanted if run not in cells.find(options.out, wanted)]
    if missing:
        dataset = data.load(
            "cifar10",
            options.data_dir,
            train_size=PLAIN.train_size,
            test_size=PLAIN.test_size,
        )
        for run in tqdm(missing, desc="runs", mininterval=30):
            finish(run, dataset, options.out)
    found = cells.find(options.out, wanted)
    print_effects(found)
    print_targets(found)
    untrained = initial(PLAIN)[1][LAYER]["kernel"]
    trained = jnp.asarray(found[PLAIN].arrays["kernel"])
    print_cosines({"untrained": untrained, "trained": trained})
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
