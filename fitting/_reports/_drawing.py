"""What the figures and the page draw alike: labels, bins, and where an axis ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._random_matrices import MarchenkoPasturFit, fit_marchenko_pastur
from ._measurements import Row

# alpha is drawn up to here; beyond it says nothing of how heavy a tail is.
TOP_ALPHA = 10.0
ALPHA_BINS = np.arange(1, TOP_ALPHA + 0.26, 0.25)  # the last one holds all from TOP_ALPHA on
NO_BULK = "no Marchenko-Pastur bulk"


def label(row: Row, *, length: int = 44) -> str:
    """A matrix by name and place, the start cut off where it is long."""
    name = row["name"].removesuffix("/kernel") + (f"[{row['index']}]" if row["index"] else "")
    return name if len(name) <= length else f"…{name[1 - length :]}"


def depths(rows: Sequence[Row]) -> list[float]:
    """Where each matrix stands in units of layers: slices side by side, as wide as their layer."""
    place = {name: i for i, name in enumerate(dict.fromkeys(row["name"] for row in rows))}
    num_in = Counter(row["name"] for row in rows)
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        name = row["name"]
        found.append(place[name] + 0.7 * ((seen[name] + 0.5) / num_in[name] - 0.5))
        seen[name] += 1
    return found


def alpha_axis(rows: Sequence[Row]) -> tuple[float, list[tuple[float, str]]]:
    """Where an axis of alpha ends, and its ticks with their labels."""
    highest = max((row["alpha"] for row in rows if row["valid"]), default=2.0)
    top = float(np.clip(highest + 0.5, 6.5, TOP_ALPHA + 0.4))
    ticks = [(alpha, alpha_tick(alpha)) for alpha in (2.0, 4.0, 6.0, 8.0, TOP_ALPHA)]
    return top, [tick for tick in ticks if tick[0] <= top]


def alpha_tick(alpha: float) -> str:
    """What a tick of alpha says; the last one stands for all beyond it."""
    return f"≥ {TOP_ALPHA:.0f}" if alpha == TOP_ALPHA else f"{alpha:.0f}"


def alpha_counts(rows: Sequence[Row], phase: str) -> NDArray[np.int64]:
    """How many matrices of a phase have an alpha in each of ``ALPHA_BINS``."""
    alphas = [row["alpha"] for row in rows if row["valid"] and row["phase"] == phase]
    return np.histogram(np.minimum(alphas, TOP_ALPHA), ALPHA_BINS)[0]


def tail_note(row: Row) -> list[str]:
    """What is written beside a tail."""
    if not row["valid"]:
        return [f"no fit: {row['reason']}"]
    return [f"α = {row['alpha']:.2f} ± {row['sigma']:.2f}", f"tail of {row['num_tail']}"]


def bulk_law(row: Row, eigenvalues: NDArray[np.float64]) -> MarchenkoPasturFit | None:
    """The Marchenko-Pastur fit of a row, where its numbers are in the table; None elsewhere."""
    if pd.isna(row["lambda_plus"]):
        return None
    # k matrices of one variance are pooled as one of k times the sides, and have wider cuts: only
    # as many spikes as the table says.
    k = eigenvalues.size // min(row["rows"], row["cols"])
    fit = fit_marchenko_pastur(eigenvalues, (k * row["rows"], k * row["cols"]))
    num_spikes = int(row["num_spikes"])
    return replace(fit, num_spikes=num_spikes, spikes=fit.spikes[:num_spikes])


def bulk_histogram(
    eigenvalues: NDArray[np.float64], law: MarchenkoPasturFit | None, *, max_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Density and edges of the bars, up to the largest eigenvalue if that is not far out."""
    top = float(eigenvalues.max())
    # Without a law most of the eigenvalues, but not where most are zero.
    edge = law.lambda_plus if law else max(float(np.quantile(eigenvalues, 0.9)), top / 50)
    num_bins = int(np.clip(2 * np.sqrt(eigenvalues.size), 12, max_bins))
    counts, edges = np.histogram(eigenvalues, num_bins, (0, 1.03 * min(top, 5 * edge)))
    return counts / eigenvalues.size / np.diff(edges), edges


def bulk_note(
    eigenvalues: NDArray[np.float64], law: MarchenkoPasturFit | None, limit: float
) -> list[str]:
    """What is written beside a bulk that is drawn up to a limit."""
    note = [NO_BULK]
    if law:
        plural = "" if law.num_spikes == 1 else "s"
        note = [f"λ+ = {law.lambda_plus:.3g}", f"{law.num_spikes} spike{plural}"]
    if beyond := int((eigenvalues > limit).sum()):
        note.append(f"{beyond} beyond, to {eigenvalues.max():.3g} →")
    return note
