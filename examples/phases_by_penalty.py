"""The 5+1 phases at one batch size, by the penalty alone.

    python -m examples.phases_by_penalty --preset small --data-dir FOLDER

A small batch takes a layer through the phases of training; `batch_size.py` shows it. Here the batch
stays at its largest, where the layer looks random without a penalty, and one spectral penalty at a
time asks for each of the other phases. Every fit is the exact one, with its p-value.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import fitting
from examples.presenting import figures, report
from examples.presenting.record import with_error
from examples.presenting.rows import Group, Row, groups, test_accuracy, train_accuracy
from examples.sweeping import command, sweep
from examples.sweeping.presets import PRESETS, Preset, seeds_of
from examples.training.config import Config
from examples.training.memory import keep_freed

LAYER = "fc1"
# Penalty and strength by the phase that they are to give.
ASKED: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "small": {
        "RANDOM_LIKE": ("", 0.0),
        "BLEEDING_OUT": ("log_stable_rank", 0.0025),
        "BULK_SPIKES": ("log_stable_rank", 0.01),
        "BULK_DECAY": ("power_law_3_top_10", 3.0),
        "HEAVY_TAILED": ("power_law_3", 10.0),
        "RANK_COLLAPSE": ("matrix_entropy", 150.0),
    },
    "smoke": {
        "RANDOM_LIKE": ("", 0.0),
        "HEAVY_TAILED": ("power_law_3", 10.0),
    },
}


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs of a preset: none, then each penalty."""
    runs = [
        dataclasses.replace(preset.largest, penalty=penalty, strength=strength)
        for penalty, strength in ASKED[options.preset].values()
    ]
    configs = [config for run in runs for config in seeds_of(run, options.seed, preset.num_seeds)]
    return lambda found: configs


def fit_of(row: Row) -> tuple[str, str, str]:
    """Exponent with its error, p-value and length of the exact fit of the layer's spectrum."""
    layer = row.layers[LAYER]
    if layer.fits is None or not layer.has_tail:
        return "no tail", "", ""
    tail = layer.fits.power_law
    p = fitting.goodness_of_fit(layer.eigenvalues, tail, num_bootstrap=1000)
    return f"{tail.alpha:.2f} ± {tail.sigma:.2f}", f"{p:.2f}", str(tail.num_tail)


def table(measured: Mapping[str, Group]) -> Table:
    """One line a phase that was asked for: the penalty, what came, the fit and the accuracies."""
    result = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("asked", "penalty"):
        result.add_column(heading)
    for heading in ("α ± σ", "p", "tail", "train", "test"):
        result.add_column(heading, justify="right")
    for asked, group in measured.items():
        config = group.config
        name = f"{config.penalty.replace('_', ' ')} {config.strength:g}" if config.penalty else ""
        seen = group.phase(LAYER)
        fit = fit_of(group.rows[0])
        result.add_row(
            asked if seen == asked else f"{asked}:\n  {seen}",
            name or "none",
            *fit,
            f"{group.mean(train_accuracy):.3f}",
            with_error(group.mean(test_accuracy), group.error(test_accuracy), ".3f"),
        )
    return result


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws the spectra, and writes the table."""
    by_run = {
        (group.config.penalty, group.config.strength): group
        for group in groups(finished.cells.values())
    }
    measured = {
        phase: by_run[run] for phase, run in ASKED[finished.options.preset].items() if run in by_run
    }
    config = next(iter(measured.values())).config
    title = f"{report.network(config)}, b = {config.batch_size}, {config.epochs} epochs"
    printed = table(measured)
    Console().print(printed)
    shown = [(_panel(group.config), group.rows[0].layers[LAYER]) for group in measured.values()]
    folder = finished.folder
    figure = figures.spectra(
        shown, f"{LAYER.upper()}, {title}", name=LAYER.upper(), shared_axes=False
    )
    cells = list(finished.cells.values())
    path = report.write(folder / "results.md", title, [printed], cells, finished.command)
    return [figures.save(figure, folder / "spectra.png"), path]


def _panel(config: Config) -> str:
    return config.penalty.replace("_", " ") or "no penalty"


EXPERIMENT = command.Experiment(
    "phases_by_penalty",
    __doc__.splitlines()[0],
    plan,
    present,
    presets={name: PRESETS[name] for name in ASKED},
)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
