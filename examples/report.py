"""What the cells of a sweep say: their spectra fitted, their phases named, a table of it."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import fitting
import spectral_reg as sr
from examples.cells import Cell
from examples.training import LAYERS, Config

SHAPES = {"fc1": (4096, 384), "fc2": (384, 192)}


class Layer(NamedTuple):
    """The final spectrum of one layer. `fits` is None where training left no finite weights."""

    eigenvalues: np.ndarray
    stable_rank: float
    entropy: float
    lambda_max: float
    fits: fitting.PhaseResult | None

    @property
    def has_tail(self) -> bool:
        """Whether the power-law fit describes a tail.

        The upper end of any spectrum fits some power law, pure noise included. It is a tail where
        most of what the fit covers stands out of the bulk, or where there is no bulk.
        """
        if self.fits is None:
            return False
        tail, outliers = self.fits.power_law, self.fits.marchenko_pastur.num_spikes
        heavy = self.fits.phase is fitting.Phase.HEAVY_TAILED
        return tail.valid and (heavy or 2 * outliers >= tail.num_tail)


class Row(NamedTuple):
    """A finished cell and the layers of its network."""

    cell: Cell[Config]
    layers: dict[str, Layer]


def measure(eigenvalues: np.ndarray, shape: tuple[int, int]) -> Layer:
    """Fits a spectrum and names its phase.

    Args:
        eigenvalues: `[min(shape)]`, squared singular values, descending; NaN where the network
            diverged.
        shape: Sides of the matrix that they are of.
    """
    if not np.isfinite(eigenvalues).all():
        return Layer(eigenvalues, np.nan, np.nan, np.nan, None)
    single = eigenvalues.astype(np.float32)
    return Layer(
        eigenvalues=eigenvalues,
        stable_rank=float(sr.stable_rank.of_eigenvalues(single)),
        entropy=float(sr.matrix_entropy.of_eigenvalues(single)),
        lambda_max=float(eigenvalues[0]),
        fits=fitting.classify_phase(eigenvalues, shape),
    )


def row(cell: Cell[Config]) -> Row:
    """Measures the layers of a finished cell as it left them."""
    return Row(cell, {name: measure(cell.arrays[name][-1], SHAPES[name]) for name in LAYERS})


def _layer_columns(layer: Layer) -> list[str]:
    if layer.fits is None:
        return ["–", "–", "–", "–", "–", "DIVERGED"]
    tail = layer.fits.power_law
    return [
        f"{layer.stable_rank:.1f}",
        f"{layer.fits.mp_soft_rank:.2f}",
        f"{layer.entropy:.4f}",
        f"{layer.lambda_max:.2f}",
        f"{tail.alpha:.2f}±{tail.sigma:.2f}" if layer.has_tail else "no tail",
        layer.fits.phase.name,
    ]


def table(rows: Sequence[Row]) -> Table:
    """Makes the table of a sweep, two lines a cell; 80 columns wide."""
    result = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    result.add_column("\nbatch\nsize")
    for header in ("\ntrain\nacc.", "\ntest\nacc."):
        result.add_column(header, justify="right")
    result.add_column("\n\nlayer")
    for header in (
        "\nstable\nrank",
        "MP\nsoft\nrank",
        "\n\nentropy",
        "\n\nλ_max",
        "\n\nα ± s.e.",
    ):
        result.add_column(header, justify="right")
    result.add_column("\n\nphase")
    for cell, layers in rows:
        first = [
            str(cell.config.batch_size),
            f"{cell.metrics['final_train_accuracy']:.3f}",
            f"{cell.metrics['final_test_accuracy']:.3f}",
        ]
        second = ["+ penalty" if cell.config.penalty else "", "", ""]
        for number, (start, (name, layer)) in enumerate(
            zip((first, second), layers.items(), strict=True)
        ):
            result.add_row(*start, name.upper(), *_layer_columns(layer), end_section=number == 1)
    return result


def write(rows: Sequence[Row], path: Path, heading: str, command: str) -> Path:
    """Writes the table and where it comes from as Markdown, and gives its path back."""
    text = StringIO()
    Console(file=text, width=100).print(table(rows))
    printed = [line.rstrip() for line in text.getvalue().strip("\n").splitlines()]
    lines = [f"# {heading}", "", "```", *printed, "```", ""]
    origins = [cell.origin for cell, _ in rows]

    def distinct(key: str) -> str:
        return ", ".join(sorted({str(origin[key]) for origin in origins}))

    times = ", ".join(f"{cell.wall_time:.0f}" for cell, _ in rows)
    config = rows[0].cell.config
    penalties = {
        f"{cell.config.strength:g} x {cell.config.penalty} of FC1 and FC2"
        for cell, _ in rows
        if cell.config.penalty
    }
    versions = origins[0]["versions"]
    lines += [
        f"- command: `{command}`",
        f"- training: {config.loss}, SGD {config.learning_rate:g}, momentum {config.momentum:g},"
        f" init {config.init}, seed {config.seed}",
        f"- penalty: {', '.join(penalties) or 'none'}",
        f"- commit: {distinct('commit')}",
        f"- machine: {distinct('processor')}, {distinct('num_cores')} cores, {distinct('system')},"
        f" device {distinct('device')}",
        f"- versions: Python {distinct('python')}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"- wall time of the cells in seconds: {times}",
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
