"""Phases against lr/b: over learning rates, over batch sizes, and at equal numbers of updates.

    python -m examples.learning_rate --preset demo

A small batch takes more steps in an epoch, and noisier ones. Three arms separate the two: batch
sizes at equal epochs, as in `batch_size.py`; learning rates at one batch size, all with the same
number of steps; and batch sizes at equal steps. If the phase follows lr/b in all three, the noise
sets it.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from rich import box
from rich.console import Console
from rich.table import Table

from examples.presenting import figures, report
from examples.presenting.rows import Group, groups, test_accuracy
from examples.sweeping import command, sweep
from examples.sweeping.presets import Preset, equal_updates, seeds_of
from examples.training.config import Config
from examples.training.memory import keep_freed
from fitting import palette

MARKERS = {"equal epochs": "o", "learning rates": "s", "equal updates": "^"}


def arms(preset: Preset) -> dict[str, list[Config]]:
    """Gives the runs of each arm, for one seed; a run may stand in more than one."""
    middle = preset.at(preset.rate_batch_size)
    return {
        "equal epochs": [preset.at(size) for size in preset.batch_sizes],
        "learning rates": [
            dataclasses.replace(middle, learning_rate=rate) for rate in preset.learning_rates
        ],
        "equal updates": [equal_updates(middle, size) for size in preset.batch_sizes],
    }


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs of a preset, arm by arm."""
    runs = [run for arm in arms(preset).values() for run in arm]
    configs = [config for run in runs for config in seeds_of(run, options.seed, preset.num_seeds)]
    return lambda found: configs


def noise(config: Config) -> float:
    """Learning rate over batch size, which sets the scale of the noise in SGD."""
    return config.learning_rate / config.batch_size


def by_arm(preset: Preset, measured: Sequence[Group]) -> list[tuple[str, Group]]:
    """Sorts measured runs by lr/b, each under the name of its arm."""
    of_config = {dataclasses.replace(group.config, seed=0): group for group in measured}
    pairs = [
        (name, of_config[dataclasses.replace(run, seed=0)])
        for name, runs in arms(preset).items()
        for run in runs
        if dataclasses.replace(run, seed=0) in of_config
    ]
    return sorted(pairs, key=lambda pair: noise(pair[1].config))


def table(pairs: Sequence[tuple[str, Group]]) -> Table:
    """Makes the table of all arms, by lr/b."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("lr/b", "arm", "b", "lr", "updates", "test", "FC1 R_s", "FC1 phase"):
        side: Literal["left", "right"] = "left" if header in ("arm", "FC1 phase") else "right"
        result.add_column(header, justify=side)
    for name, group in pairs:
        config = group.config
        result.add_row(
            f"{noise(config):.1e}",
            name,
            str(config.batch_size),
            f"{config.learning_rate:g}",
            f"{config.num_steps * config.epochs:,}",
            f"{group.mean(test_accuracy):.3f}",
            f"{group.mean(lambda row: row.layers['fc1'].stable_rank):.1f}",
            group.phase("fc1"),
        )
    return result


def draw(pairs: Sequence[tuple[str, Group]], title: str) -> Figure:
    """Draws the stable ranks against lr/b, coloured by phase."""
    seen = {row.layers[layer].phase for _, g in pairs for row in g.rows for layer in row.layers}
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        for axes, layer in zip(figure.subplots(1, 2), ("fc1", "fc2"), strict=True):
            for name, group in pairs:
                for row in group.rows:
                    colour, _ = figures.PHASES[row.layers[layer].phase]
                    axes.plot(
                        noise(group.config),
                        row.layers[layer].stable_rank,
                        MARKERS[name],
                        markersize=8,
                        markerfacecolor=colour,
                        markeredgecolor="black",
                        markeredgewidth=0.6,
                    )
            axes.set(
                xscale="log",
                yscale="log",
                title=layer.upper(),
                xlabel="learning rate / batch size [per image]",
                ylabel="stable rank",
            )
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.tick_params(axis="y", which="minor", labelsize=7)
            axes.grid(alpha=0.25)
        black: dict[str, Any] = {"color": "black", "linestyle": "", "markerfacecolor": "white"}
        handles = [Line2D([], [], marker=m, label=name, **black) for name, m in MARKERS.items()]
        handles += [
            Line2D([], [], marker="o", ls="", color=colour, mec="black", label=phase)
            for phase, (colour, _) in figures.PHASES.items()
            if phase in seen
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        figure.suptitle(title)
    return figure


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws stable rank against lr/b, and writes the table."""
    pairs = by_arm(finished.preset, groups(finished.cells.values()))
    title = report.network(finished.preset.baseline)
    shown = table(pairs)
    Console().print(shown)
    cells = list(finished.cells.values())
    return [
        figures.save(draw(pairs, title), finished.folder / "phases.png"),
        report.write(finished.folder / "results.md", title, [shown], cells, finished.command),
    ]


EXPERIMENT = command.Experiment("learning_rate", __doc__.splitlines()[0], plan, present)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
