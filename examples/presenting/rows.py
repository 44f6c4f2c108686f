"""Finished cells measured: spectra fitted, phases named, the seeds of a run together."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

import fitting
import spectral_reg as sr
from examples.sweeping.cells import Cell
from examples.training.config import Config
from examples.training.networks import LAYERS


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

    @property
    def phase(self) -> str:
        """The phase's name, or DIVERGED."""
        return self.fits.phase.name if self.fits else "DIVERGED"

    @property
    def mp_soft_rank(self) -> float:
        """0 for heavy tails; NaN if the run diverged."""
        return self.fits.mp_soft_rank if self.fits else np.nan

    @property
    def alpha(self) -> float:
        """Exponent of the tail; NaN if there is none."""
        return self.fits.power_law.alpha if self.fits and self.has_tail else np.nan

    @property
    def num_spikes(self) -> float:
        """Eigenvalues above the bulk's edge; NaN if the run diverged."""
        return float(self.fits.marchenko_pastur.num_spikes) if self.fits else np.nan


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


def row(cell: Cell[Config], epoch: int = -1) -> Row:
    """Measures the layers of a finished cell as it left them, or at one of its measured epochs."""
    shapes = LAYERS[cell.config.network]
    return Row(
        cell, {name: measure(cell.arrays[name][epoch], shape) for name, shape in shapes.items()}
    )


class Group(NamedTuple):
    """All seeds of one run."""

    config: Config
    rows: list[Row]

    def values(self, of: Callable[[Row], float]) -> np.ndarray:
        """A number of every seed."""
        return np.array([of(row) for row in self.rows], float)

    def mean(self, of: Callable[[Row], float]) -> float:
        """The mean of a number over the seeds that have it; NaN if none has."""
        values = self.values(of)
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan

    def error(self, of: Callable[[Row], float]) -> float:
        """The standard error of that mean; NaN for fewer than two seeds."""
        return standard_error(self.values(of))

    def phase(self, layer: str) -> str:
        """The phase, with the number of seeds in each where they differ."""
        counts = Counter(row.layers[layer].phase for row in self.rows).most_common()
        if len(counts) == 1:
            return counts[0][0]
        return ", ".join(f"{name} {count}" for name, count in counts)


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of the finite values; NaN for fewer than two."""
    finite = values[np.isfinite(values)]
    return float(finite.std(ddof=1) / np.sqrt(finite.size)) if finite.size > 1 else np.nan


def groups(cells: Iterable[Cell[Config]]) -> list[Group]:
    """Measures cells, and puts the seeds of each run together."""
    found: dict[Config, list[Row]] = defaultdict(list)
    for cell in cells:
        found[dataclasses.replace(cell.config, seed=0)].append(row(cell))
    return [Group(config, rows) for config, rows in found.items()]


def train_accuracy(row: Row) -> float:
    """Share of the training images that the finished network answers right."""
    return row.cell.metrics["final_train_accuracy"]


def test_accuracy(row: Row) -> float:
    """Share of the test images, or of those for validation, that it answers right."""
    return row.cell.metrics["final_test_accuracy"]
