"""LeNet5 on MNIST: a bulk with spikes, as in the papers' Figure 1.

    python -m examples.lenet5 --data-dir FOLDER

FC1 is 2450 x 500. The papers have its edge at about 3.5, spikes from there to about 25, and a test
accuracy of 99.25 %, after 20 epochs of AdaDelta. They do not give the batch size. With 128, that of
Keras' own examples, the spikes are as many and reach as far as theirs; with 32, the default of
Keras, there are 41, up to 52.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from examples.presenting import figures, report
from examples.presenting.rows import Group, Layer, groups, test_accuracy, train_accuracy
from examples.sweeping import command, sweep
from examples.sweeping.presets import Preset, seeds_of
from examples.training.config import Config
from examples.training.memory import keep_freed
from fitting import palette

PAPER = Config(
    "mnist",
    60_000,
    10_000,
    batch_size=128,
    epochs=20,
    network="lenet5",
    optimizer="adadelta",
    learning_rate=1.0,
)
PRESETS = {
    "paper": Preset(PAPER, (128,), 1, reference=128),
    "smoke": Preset(
        dataclasses.replace(PAPER, data="digits", train_size=64, test_size=32, epochs=1),
        (32,),
        1,
        reference=32,
    ),
}


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the seeds of the run at each batch size."""
    epsilon = "adadelta" if options.epsilon == 1e-7 else "adadelta_1e-8"
    runs = [dataclasses.replace(preset.at(size), optimizer=epsilon) for size in preset.batch_sizes]
    configs = [config for run in runs for config in seeds_of(run, options.seed, preset.num_seeds)]
    return lambda found: configs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the experiment's own argument."""
    parser.add_argument(
        "--epsilon",
        type=float,
        choices=(1e-7, 1e-8),
        default=1e-7,
        help="of AdaDelta; Keras had 1e-8 until 2.1.2 and has had 1e-7 since",
    )


def _density(axes: Axes, layer: Layer, most: float, bins: int) -> None:
    shown = layer.eigenvalues[layer.eigenvalues <= most]
    edges = np.linspace(0, most, bins + 1)
    heights, _ = np.histogram(shown, edges)
    density = heights / layer.eigenvalues.size / np.diff(edges)
    axes.stairs(density, edges, fill=True, color=palette.BARS, label="eigenvalues of FC1")
    if layer.fits:
        law = layer.fits.marchenko_pastur
        x = np.linspace(1e-3, most, 2000)
        # Without the spikes' dimensions the bulk ends a little below the λ₊ of the whole matrix.
        end = law.bulk.edges[1] if law.bulk else law.lambda_plus
        label = f"Marchenko-Pastur, to {end:.2f}"
        axes.plot(x, law.density(x), color=palette.LAW, lw=1.6, label=label)
        if spikes := [spike for spike in law.spikes if spike <= most]:
            height = axes.get_xaxis_transform()
            axes.plot(spikes, [0.03] * len(spikes), "k|", ms=9, transform=height, label="spikes")
    axes.set(xlim=(0, most), ylim=(0, None), xlabel="eigenvalue λ of WᵀW", ylabel="density")


def draw(layer: Layer, title: str) -> Figure:
    """Draws the spectrum of FC1, in full and near the edge (the papers' Figure 1a and b)."""
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(9.6, 3.5), layout="constrained")
        full, zoomed = figure.subplots(1, 2)
        if layer.fits:
            _density(full, layer, layer.lambda_max * 1.05, 120)
            _density(zoomed, layer, layer.fits.marchenko_pastur.lambda_plus * 1.6, 60)
            full.set_title(f"In full: {layer.phase}")
            zoomed.set_title("Near the edge")
            zoomed.legend()
        figure.suptitle(title)
    return figure


def _numbers(group: Group) -> list[str]:
    layers = [row.layers["fc1"] for row in group.rows]
    fits = [layer.fits.marchenko_pastur for layer in layers if layer.fits]

    def mean(values: Sequence[float], digits: int) -> str:
        return f"{np.mean(values):.{digits}f}" if values else "–"

    return [
        str(len(group.rows)),
        f"{group.mean(train_accuracy):.4f}",
        f"{group.mean(test_accuracy):.4f}",
        mean([fit.lambda_plus for fit in fits], 2),
        mean([fit.bulk.edges[1] for fit in fits if fit.bulk], 2),
        mean([fit.num_spikes for fit in fits], 1),
        mean([layer.lambda_max for layer in layers], 1),
        group.phase("fc1"),
    ]


NAMES = (
    "seeds",
    "train accuracy",
    "test accuracy",
    "edge λ₊",
    "end of the bulk",
    "spikes",
    "largest λ",
    "phase",
)
PUBLISHED = ("", "1.0000", "0.9925", "about 3.5", "", "25", "up to about 25", "BULK_SPIKES")


def table(measured: Sequence[Group]) -> Table:
    """Makes the table, a column a batch size, the papers' numbers beside them."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    sizes = [f"b = {group.config.batch_size}" for group in measured]
    for header in ("FC1 of LeNet5", *sizes, "papers"):
        result.add_column(header)
    for row in zip(NAMES, *map(_numbers, measured), PUBLISHED, strict=True):
        result.add_row(*row)
    return result


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws the spectrum of the first seed at the first batch size, and writes the table."""
    measured = groups(finished.cells.values())
    config = measured[0].config
    title = f"{report.network(config)}, {config.epochs} epochs"
    shown = table(measured)
    Console().print(shown)
    folder, cells = finished.folder, list(finished.cells.values())
    drawn = draw(measured[0].rows[0].layers["fc1"], f"{title}, b = {config.batch_size}")
    return [
        figures.save(drawn, folder / "spectrum.png"),
        report.write(folder / "results.md", title, [shown], cells, finished.command),
    ]


EXPERIMENT = command.Experiment(
    "lenet5", __doc__.splitlines()[0], plan, present, PRESETS, arguments
)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
