"""MiniAlexNet over batch sizes, and once with a penalty: the phases of training.

    python -m examples.batch_size --preset demo

Small batches regularize a network implicitly, and its spectra show it. The sweep trains the same
network from the same initial weights at several batch sizes. The small presets train once more at
the largest batch size, with a spectral penalty in place of the small batch; `explicit_penalty.py`
studies that in earnest.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from rich.console import Console

from examples.presenting import figures, report
from examples.presenting.rows import Group, groups
from examples.sweeping import command, sweep
from examples.sweeping.presets import Preset, seeds_of
from examples.training.config import Config
from examples.training.memory import keep_freed

# At the largest batch size. Digits, b = 256, seed 0, where FC1 has a stable rank of 219 and looks
# random without a penalty: with the first it has a power law over half of its eigenvalues, alpha
# 3.07 +- 0.17 in the exact fit, at the same test accuracy. The second takes its stable rank to 106,
# that of b = 16, by one spike.
PENALTIES = {
    "demo": ("power_law_3", 280.0),
    "quick": ("log_stable_rank", 0.3),
    "smoke": ("log_stable_rank", 0.3),
}


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs of a preset: the batch sizes, then perhaps the largest with the penalty."""
    runs = [preset.at(batch_size) for batch_size in preset.batch_sizes]
    if options.preset in PENALTIES:
        penalty, strength = PENALTIES[options.preset]
        runs.append(dataclasses.replace(runs[0], penalty=penalty, strength=strength))
    configs = [config for run in runs for config in seeds_of(run, options.seed, preset.num_seeds)]
    return lambda found: configs


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws ranks, spectra and localization, and writes the table."""
    folder, measured = finished.folder, groups(finished.cells.values())
    config = measured[0].config
    title = f"{report.network(config)}, {report.epochs(measured)}"
    table = report.table(measured)
    Console().print(table)
    # The spectrum of the first seed; all seeds are in the table and in the other figures.
    panels = [(_panel(group.config, measured), group.rows[0]) for group in measured]
    drawn = {
        "ranks": figures.against(
            measured, title, lambda run: run.batch_size, "batch size [images]"
        ),
        "localization": figures.localization_by_batch_size(measured, title),
    }
    for layer, name in (("fc1", "spectra"), ("fc2", "spectra_fc2")):
        shown = [(name, row.layers[layer]) for name, row in panels]
        drawn[name] = figures.spectra(shown, f"{layer.upper()}, {title}", name=layer.upper())
    paths = [figures.save(figure, folder / f"{name}.png") for name, figure in drawn.items()]
    cells = list(finished.cells.values())
    path = report.write(folder / "results.md", title, [table], cells, finished.command)
    return [*paths, path]


def _panel(config: Config, measured: Sequence[Group]) -> str:
    """Names a run by its batch size and penalty, and by its epochs where they differ."""
    name = " ".join(filter(None, ("b =", *report.by_batch_size(config))))
    alike = len({group.config.epochs for group in measured}) == 1
    return name if alike else f"{name}, epoch {config.epochs}"


EXPERIMENT = command.Experiment("batch_size", __doc__.splitlines()[0], plan, present)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
