"""Spectra while a network trains: entropy, stable rank, largest eigenvalue, localization.

    python -m examples.training_dynamics --preset demo

The papers' Figure 3: the baseline, with L2, with enough L2 for the rank to collapse, with dropout,
and on random labels. It shows what the bulk and the spikes look like after some epochs, and on how
few inputs their directions are concentrated.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.table import Table

import spectral_reg as sr
from examples.presenting import figures, report
from examples.presenting.rows import Group, groups, row, test_accuracy, train_accuracy
from examples.sweeping import command, sweep
from examples.sweeping.cells import Cell
from examples.sweeping.presets import Preset, seeds_of
from examples.training.config import Config
from examples.training.measures import LOCALIZATION
from examples.training.memory import keep_freed
from examples.training.penalties import penalized
from fitting import palette

LAYERS = ("fc1", "fc2")
Quantity = Callable[[Cell[Config], str], np.ndarray]


def variants(preset: Preset) -> dict[str, Config]:
    """Gives the runs by name. Strength and rate are the papers' where they say them."""
    base = preset.at(preset.baseline.batch_size)
    # The papers' run with dropout has batch norm on FC1 and FC2 as well.
    dense_norm = base.network == "mini_alexnet"
    return {
        "baseline": base,
        "L2": dataclasses.replace(base, penalty="l2", strength=1e-4),
        # Left alone, singular values would shrink by e^-20 over the run.
        "strong L2": penalized(base, "l2", 10.0),
        "dropout": dataclasses.replace(
            base, penalty="dropout", strength=0.5, dense_norm=dense_norm
        ),
        "random labels": dataclasses.replace(base, random_labels=1.0),
    }


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs of a preset."""
    runs = variants(preset).values()
    configs = [config for run in runs for config in seeds_of(run, options.seed, preset.num_seeds)]
    return lambda found: configs


def entropy(cell: Cell[Config], layer: str) -> np.ndarray:
    """Matrix entropy at the measured epochs."""
    return np.asarray(sr.matrix_entropy.of_eigenvalues(cell.arrays[layer].astype(np.float32)))


def stable_rank(cell: Cell[Config], layer: str) -> np.ndarray:
    """Stable rank at the measured epochs."""
    return np.asarray(sr.stable_rank.of_eigenvalues(cell.arrays[layer].astype(np.float32)))


def lambda_max(cell: Cell[Config], layer: str) -> np.ndarray:
    """Largest eigenvalue at the measured epochs."""
    return cell.arrays[layer][:, 0]


def localized(part: str) -> Quantity:
    """Participation ratio of the bulk's or the spikes' directions at the measured epochs."""
    column = LOCALIZATION.index(f"{part}_participation_ratio")
    return lambda cell, layer: cell.arrays[f"localization_{layer}"][:, column]


def _curve(axes: Axes, group: Group, layer: str, of: Quantity, **style: object) -> None:
    """Draws the mean over the seeds and, if there are some, the range of them."""
    cells = [row.cell for row in group.rows]
    epochs = cells[0].metrics["epochs"]
    values = np.stack([of(cell, layer) for cell in cells])
    # An epoch without a spike has no value; a mean of none is none.
    some = np.isfinite(values).any(axis=0)
    mean = np.full(len(epochs), np.nan)
    mean[some] = np.nanmean(values[:, some], axis=0)
    (line,) = axes.plot(epochs, mean, **style)  # type: ignore[arg-type]
    if len(cells) > 1 and some.any():
        low, high = np.nanmin(values[:, some], axis=0), np.nanmax(values[:, some], axis=0)
        places = np.asarray(epochs)[some]
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.15, lw=0)


def _styles(measured: dict[str, Group], epochs: int) -> dict[str, dict[str, object]]:
    every = max(1, epochs // 8)
    return {
        name: style | {"label": name, "markersize": 4, "markevery": every}
        for name, style in zip(measured, palette.SERIES, strict=False)
    }


def draw_ranks(measured: dict[str, Group], title: str) -> Figure:
    """Draws entropy, stable rank and largest eigenvalue of both layers over the epochs."""
    quantities = {
        "matrix entropy": entropy,
        "stable rank": stable_rank,
        r"largest eigenvalue $\lambda_{\max}$": lambda_max,
    }
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(9.6, 5.4), layout="constrained")
        grid = figure.subplots(2, 3, sharex=True)
        for line, layer in zip(grid, LAYERS, strict=True):
            for axes, (label, of) in zip(line, quantities.items(), strict=True):
                for name, group in measured.items():
                    style = _styles(measured, group.config.epochs)[name]
                    _curve(axes, group, layer, of, **style)
                axes.set(title=layer.upper(), ylabel=label)
                if of is lambda_max:
                    axes.set_yscale("log")
                    axes.yaxis.set_major_formatter("{x:g}")
                    axes.yaxis.set_minor_formatter("{x:g}")
                    axes.tick_params(axis="y", which="minor", labelsize=7)
                axes.grid(alpha=0.25)
        for axes in grid[1]:
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(measured))
        figure.suptitle(title)
    return figure


def draw_localization(measured: dict[str, Group], title: str) -> Figure:
    """Draws the participation ratio of spikes and bulk over the epochs."""
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        grid = figure.subplots(1, 2)
        for axes, layer in zip(grid, LAYERS, strict=True):
            for name, group in measured.items():
                style = _styles(measured, group.config.epochs)[name]
                _curve(axes, group, layer, localized("spikes"), **style)
                thin = style | {"label": None, "marker": "", "lw": 0.9, "alpha": 0.7}
                _curve(axes, group, layer, localized("bulk"), **thin)
            axes.set(title=f"{layer.upper()}: spikes (markers) and bulk (thin)", xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.set_ylabel("participation ratio\n(smaller: more localized)")
            axes.grid(alpha=0.25)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(measured))
        figure.suptitle(title)
    return figure


def draw_spectra(measured: dict[str, Group], title: str) -> Figure:
    """Draws FC1 of the first seed: the baseline over the epochs, then the others at their end."""
    cell = next(iter(measured.values())).rows[0].cell
    epochs = cell.metrics["epochs"]
    some = np.unique(np.round(np.geomspace(1, len(epochs), 4)).astype(int)) - 1
    panels = [(f"epoch {epochs[index]}", row(cell, int(index)).layers["fc1"]) for index in some]
    panels += [(name, group.rows[0].layers["fc1"]) for name, group in list(measured.items())[1:]]
    return figures.spectra(panels, f"FC1, {title}")


def table(measured: dict[str, Group]) -> Table:
    """Makes the table: ranks at the start and at the end, and the accuracies."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("run", "layer", "R_s", "to", "entropy", "to", "train", "test", "phase"):
        result.add_column(header)
    for name, group in measured.items():
        for layer in LAYERS:
            ends = []
            for of in (stable_rank, entropy):
                values = np.stack([of(row.cell, layer) for row in group.rows]).mean(axis=0)
                ends += [values[0], values[-1]]
            accuracies = (group.mean(of) for of in (train_accuracy, test_accuracy))
            result.add_row(
                name if layer == "fc1" else "",
                layer.upper(),
                *(f"{end:.1f}" for end in ends[:2]),
                *(f"{end:.4f}" for end in ends[2:]),
                *(f"{share:.3f}" if layer == "fc1" else "" for share in accuracies),
                group.phase(layer),
            )
    return result


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws the figures, and writes the table."""
    found = {dataclasses.replace(g.config, seed=0): g for g in groups(finished.cells.values())}
    measured = {
        name: found[dataclasses.replace(config, seed=0)]
        for name, config in variants(finished.preset).items()
        if dataclasses.replace(config, seed=0) in found
    }
    config = finished.preset.baseline
    title = f"{report.network(config)}, b = {config.batch_size}"
    shown = table(measured)
    Console().print(shown)
    folder, cells = finished.folder, list(finished.cells.values())
    return [
        figures.save(draw_ranks(measured, title), folder / "ranks.png"),
        figures.save(draw_localization(measured, title), folder / "localization.png"),
        figures.save(draw_spectra(measured, title), folder / "spectra.png"),
        report.write(folder / "results.md", title, [shown], cells, finished.command),
    ]


EXPERIMENT = command.Experiment("training_dynamics", __doc__.splitlines()[0], plan, present)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
