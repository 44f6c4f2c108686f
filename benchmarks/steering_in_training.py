"""Whether a power law that is asked for stands in a layer that learns, and what it costs the loss.

    python -m benchmarks.steering_in_training --data-dir FOLDER [--runs 4]

FC1 and FC2 of MiniAlexNet on CIFAR-10 (5,000 images, 4 epochs, b = 32), with
`power_law_distance` at three exponents, exact and tracked, beside the runs without it: three seeds
of each. Every finished run is a file of its own; the same command goes on from there. Of each layer
the exact fit, its p-value and its tail, and the training loss of the last epoch relative to that of
the plain run of the same seed.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import optax

import fitting
import spectral_reg as sr
from examples.sweeping import cells
from examples.sweeping.presets import PRESETS
from examples.training import data
from examples.training.config import Config
from examples.training.memory import keep_freed
from examples.training.networks import LAYERS
from examples.training.training import train

NUM_SEEDS = 3
EXPONENTS = (2.5, 3.0, 4.0)
STRENGTH = 10.0
TRACKED = "warm, every 5"


@dataclasses.dataclass(frozen=True)
class Run(Config):
    """One training run.

    Attributes:
        exponent: Of the power law that is asked for; 0 for none.
        tracking: "exact" or `TRACKED`.
        band: That of the penalty.
    """

    exponent: float = 0.0
    tracking: str = ""
    band: float = 0.0


PLAIN = Run(**dataclasses.asdict(PRESETS["quick"].baseline))


def runs() -> list[Run]:
    """All runs, those without a penalty first."""
    arms = [PLAIN]
    for tracking, exponent in itertools.product(("exact", TRACKED), EXPONENTS):
        arms.append(
            dataclasses.replace(PLAIN, exponent=exponent, tracking=tracking, strength=STRENGTH)
        )
    arms.append(dataclasses.replace(arms[2], band=1.0))
    return [dataclasses.replace(arm, seed=seed) for seed in range(NUM_SEEDS) for arm in arms]


def optimizer(run: Run) -> optax.GradientTransformation:
    """SGD with momentum, behind the penalty on both dense layers."""
    sgd = optax.sgd(run.learning_rate, momentum=run.momentum)
    if not run.exponent:
        return sgd
    tracked = {"tracking": "warm", "every": 5} if run.tracking == TRACKED else {}
    metric = sr.power_law_distance(run.exponent, band=run.band)
    mask = sr.by_path(*(f"{layer}/kernel" for layer in LAYERS[run.network]))
    return optax.chain(sr.add_spectral_penalty(metric, run.strength, mask=mask, **tracked), sgd)


def finish(run: Run, dataset: data.Dataset, folder: Path) -> None:
    """Trains one run and writes its file."""
    start = time.perf_counter()
    outcome = train(run, dataset, optimizer=optimizer(run))
    wall_time = time.perf_counter() - start
    cell = cells.Cell(run, outcome.metrics, outcome.arrays, wall_time, cells.origin())
    cells.write(folder, cell, label=f"{run.exponent:g}-{run.tracking or 'none'}-seed{run.seed}")


def print_table(found: dict[Run, cells.Cell[Run]]) -> None:
    """One line a run and layer."""
    print("| asked | tracking | seed | layer | alpha | sigma | tail | p | loss / plain | test |")
    print("|" + "---|" * 10)
    for run, cell in sorted(
        found.items(), key=lambda item: (item[0].exponent, item[0].tracking, item[0].band)
    ):
        plain = found.get(dataclasses.replace(PLAIN, seed=run.seed))
        loss = cell.metrics["train_loss"][-1]
        ratio = f"{loss / plain.metrics['train_loss'][-1]:.3f}" if plain else ""
        asked = f"{run.exponent:g}" + (f", band {run.band:g}" if run.band else "")
        for layer in LAYERS[run.network]:
            end = cell.arrays[layer][-1]
            fit = fitting.fit_power_law(end)
            p = fitting.goodness_of_fit(end, fit, num_bootstrap=1000)
            print(
                f"| {asked if run.exponent else 'nothing'} | {run.tracking} | {run.seed} | {layer} "
                f"| {fit.alpha:.2f} | {fit.sigma:.2f} | {fit.num_tail} | {p:.2f} | {ratio} "
                f"| {cell.metrics['final_test_accuracy']:.3f} |"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the runs that are missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/steering_in_training"))
    parser.add_argument("--runs", type=int, help="train so many of the missing runs at most")
    options = parser.parse_args(arguments)
    wanted = runs()
    missing = [run for run in wanted if run not in cells.find(options.out, wanted)]
    if missing[: options.runs]:
        dataset = data.load(
            "cifar10", options.data_dir, train_size=PLAIN.train_size, test_size=PLAIN.test_size
        )
        for run in missing[: options.runs]:
            finish(run, dataset, options.out)
    print_table(cells.find(options.out, wanted))


if __name__ == "__main__":
    keep_freed()
    main()
