"""Tables of a sweep, and the record of where its numbers come from."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from examples.presenting.record import document
from examples.presenting.rows import Group, Row, row, standard_error, test_accuracy, train_accuracy
from examples.sweeping.cells import Cell
from examples.training.config import Config
from examples.training.measures import LOCALIZATION
from examples.training.networks import LAYERS
from examples.training.penalties import POWER_LAWS
from fitting._whole_file import written_whole


def _layer_columns(group: Group, name: str) -> list[str]:
    layers = [row.layers[name] for row in group.rows]
    if all(layer.fits is None for layer in layers):
        return ["–", "–", "–", "–", "–", "DIVERGED"]
    alphas = group.values(lambda row: row.layers[name].alpha)
    if not np.isfinite(alphas).any():
        alpha = "no tail"
    else:
        error = standard_error(alphas) if len(layers) > 1 else layers[0].fits.power_law.sigma  # type: ignore[union-attr]
        alpha = f"{np.nanmean(alphas):.2f}" + (f"±{error:.2f}" if np.isfinite(error) else "")
    return [
        f"{group.mean(lambda row: row.layers[name].stable_rank):.1f}",
        f"{group.mean(lambda row: row.layers[name].mp_soft_rank):.2f}",
        f"{group.mean(lambda row: row.layers[name].entropy):.4f}",
        f"{group.mean(lambda row: row.layers[name].lambda_max):.2f}",
        alpha,
        group.phase(name).replace(", ", "\n"),
    ]


NAMES = {"mini_alexnet": "MiniAlexNet", "tiny": "A tiny network", "lenet5": "LeNet5"}


def network(config: Config) -> str:
    """Says what is trained on what."""
    return f"{NAMES[config.network]} on {config.data}, {config.train_size:,} images"


def epochs(groups: Iterable[Group]) -> str:
    """Says how long runs were trained: their number of epochs, or the most and the least."""
    most_first = sorted({group.config.epochs for group in groups}, reverse=True)
    return " to ".join(map(str, dict.fromkeys((most_first[0], most_first[-1])))) + " epochs"


def by_batch_size(config: Config) -> tuple[str, str]:
    """Names a run in the table's first column: its batch size, and what it is penalized by."""
    if config.penalty in POWER_LAWS:
        return str(config.batch_size), f"+ α → {POWER_LAWS[config.penalty]:g}"
    return str(config.batch_size), "+ penalty" if config.penalty else ""


def table(
    groups: Sequence[Group],
    name: Callable[[Config], tuple[str, str]] = by_batch_size,
    header: str = "\nbatch\nsize",
) -> Table:
    """Makes the table of a sweep, one line a layer, means over the seeds; 80 columns wide.

    Args:
        groups: The runs.
        name: What a run is called, in two lines.
        header: Of the column with these names.
    """
    result = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    result.add_column(header)
    for heading in ("\ntrain\nacc.", "\ntest\nacc."):
        result.add_column(heading, justify="right")
    result.add_column("\n\nlayer")
    for heading in (
        "\nstable\nrank",
        "MP\nsoft\nrank",
        "\n\nentropy",
        "\n\nλ_max",
        "\n\nα ± s.e.",
    ):
        result.add_column(heading, justify="right")
    result.add_column("\n\nphase")
    for group in groups:
        first, second = name(group.config)
        accuracies = [f"{group.mean(of):.3f}" for of in (train_accuracy, test_accuracy)]
        layers = list(LAYERS[group.config.network])
        starts = [[first, *accuracies], [second, "", ""]]
        for number in range(max(len(layers), 2 if second else 1)):
            columns = [""] * 7
            if number < len(layers):
                columns = [layers[number].upper(), *_layer_columns(group, layers[number])]
            last = number + 1 >= len(layers)
            result.add_row(*starts[number], *columns, end_section=last)
    return result


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Gives every number of every run: one line a run and layer."""
    lines = []
    for cell, layers in rows:
        for name, layer in layers.items():
            bulk = layer.fits.marchenko_pastur if layer.fits else None
            localized = cell.arrays[f"localization_{name}"]
            lines.append(
                dataclasses.asdict(cell.config)
                | {
                    "train_accuracy": cell.metrics["final_train_accuracy"],
                    "test_accuracy": cell.metrics["final_test_accuracy"],
                    "layer": name,
                    "stable_rank": layer.stable_rank,
                    "mp_soft_rank": layer.mp_soft_rank,
                    "entropy": layer.entropy,
                    "lambda_max": layer.lambda_max,
                    "lambda_plus": bulk.lambda_plus if bulk else np.nan,
                    "sigma": bulk.sigma2**0.5 if bulk else np.nan,
                    "alpha": layer.alpha,
                    "phase": layer.phase,
                    "wall_time": cell.wall_time,
                    "commit": cell.origin.get("commit"),
                }
                | dict(zip(LOCALIZATION, localized[-1], strict=True))
            )
    return pd.DataFrame(lines)


def origins(cells: Sequence[Cell[Config]], command: str) -> list[str]:
    """Says in lines of Markdown where cells come from."""

    def distinct(values: Iterable[object]) -> str:
        return ", ".join(sorted({str(value) for value in values}))

    def of(key: str) -> str:
        return distinct(cell.origin.get(key) for cell in cells)

    configs = [cell.config for cell in cells]
    penalties = [f"{c.strength:g} x {c.penalty} of FC1 and FC2" for c in configs if c.penalty]
    packages = {
        f"{name} {number}" for cell in cells for name, number in cell.origin["versions"].items()
    }
    return [
        f"- command: `{command}`",
        f"- training: {distinct(c.loss for c in configs)}, "
        + distinct(f"{c.optimizer} {c.learning_rate:g}" for c in configs)
        + f", momentum {distinct(f'{c.momentum:g}' for c in configs)}"
        + f", init {distinct(c.init for c in configs)}, seeds {distinct(c.seed for c in configs)}",
        f"- penalty: {distinct(penalties) or 'none'}",
        f"- commit: {of('commit')}",
        f"- machine: {of('processor')}, {of('num_cores')} cores, {of('system')}, device"
        f" {of('device')}",
        f"- versions: Python {of('python')}, {', '.join(sorted(packages))}",
        f"- wall time: {sum(cell.wall_time for cell in cells):.0f} s; of the cells "
        + ", ".join(f"{cell.wall_time:.0f}" for cell in cells),
        "",
    ]


def write(
    path: Path,
    heading: str,
    tables: Sequence[Table | str],
    cells: Sequence[Cell[Config]],
    command: str,
) -> Path:
    """Writes tables and where they come from as Markdown, and gives the path back.

    Args:
        path: The file; next to it comes a .csv of the same name with every number.
        heading: Of the file.
        tables: Tables, drawn as text, and paragraphs between them.
        cells: What they are of.
        command: What made them.
    """
    document(path, heading, tables, origins(cells, command))
    with written_whole(path.with_suffix(".csv")) as unfinished:
        frame(row(cell) for cell in cells).to_csv(unfinished, index=False)
    return path
