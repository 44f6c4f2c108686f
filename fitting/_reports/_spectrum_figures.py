"""A page of spectra with their fits, two drawings for each matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..palette import BARS, DOTS, LAW
from ._drawing import bulk_histogram, bulk_law, bulk_note, label, tail_note
from ._measurements import Measurements, Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NUM_ROWS, NUM_COLUMNS = 5, 2
PER_PAGE = NUM_ROWS * NUM_COLUMNS


def draw_spectra(report: Measurements, rows: Sequence[Row]) -> Figure:
    """Tail on log-log axes and bulk on linear ones, for up to a page of matrices."""
    from matplotlib.figure import Figure

    num_rows = -(-len(rows) // NUM_COLUMNS)
    figure = Figure(figsize=(13.0, 1.0 + 2.3 * num_rows))
    grid = figure.subplots(num_rows, 2 * NUM_COLUMNS, squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.052, right=0.99, top=1 - 0.75 / height, bottom=0.5 / height, wspace=0.2, hspace=0.6
    )
    figure.legend(handles=_key(), loc="upper center", ncols=5)
    for i in range(num_rows * NUM_COLUMNS):
        line, column = divmod(i, NUM_COLUMNS)
        loglog, linear = grid[line, 2 * column : 2 * column + 2]
        if i >= len(rows):
            loglog.set_axis_off()
            linear.set_axis_off()
            continue
        row = rows[i]
        shape = f"{row['rows']} x {row['cols']}"
        loglog.set_title(label(row), loc="left", fontweight="bold", fontsize=9)
        phase = row["phase"] if isinstance(row["phase"], str) else ""
        linear.set_title(f"{shape}   {phase}", loc="right", fontsize=9)
        eigenvalues = report.spectra[row["name"], row["index"]]
        if not (np.isfinite(eigenvalues).all() and eigenvalues.any()):
            for axes in (loglog, linear):
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            loglog.text(0, 0.5, row["reason"], transform=loglog.transAxes)
            continue
        _draw_tail(loglog, row, eigenvalues)
        _draw_bulk(linear, row, eigenvalues)
        if line == num_rows - 1 or i + NUM_COLUMNS >= len(rows):
            loglog.set_xlabel("eigenvalue λ")
            linear.set_xlabel("eigenvalue λ")
    return figure


def _key() -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=DOTS, marker=".", linestyle="", label="eigenvalues"),
        Line2D([], [], color=LAW, label="fit: power law, Marchenko-Pastur"),
        Line2D([], [], color="0.5", linestyle=":", label="xmin, where the tail starts"),
        Line2D([], [], color=LAW, linestyle="--", linewidth=0.8, label="λ+, where noise ends"),
        Line2D([], [], color="black", marker="v", markersize=4, linestyle="", label="spikes"),
    ]


def _note(axes: Axes, x: float, y: float, text: str) -> None:
    """Text that lines behind it cannot make illegible."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha="left" if x < 0.5 else "right",
        va="bottom" if y < 0.5 else "top",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def _draw_tail(axes: Axes, row: Row, eigenvalues: NDArray[np.float64]) -> None:
    """The share of eigenvalues at or above each, free of bins, with the power law's."""
    positive = np.sort(eigenvalues[eigenvalues > 0])[::-1]
    share = np.arange(1, positive.size + 1) / eigenvalues.size
    axes.plot(positive, share, ".", color=DOTS, markersize=2.5)
    axes.set(xscale="log", yscale="log", ylabel="share ≥ λ")
    # The last few decades: what lies far below says nothing here.
    axes.set_xlim(max(positive[-1], positive[0] * 1e-5) / 1.4, positive[0] * 1.6)
    if row["valid"]:
        x = np.array([row["xmin"], positive[0]])
        law = row["num_tail"] / eigenvalues.size * (x / row["xmin"]) ** (1 - row["alpha"])
        axes.plot(x, law, color=LAW, linewidth=1.6)
        axes.axvline(row["xmin"], color="0.5", linewidth=0.8, linestyle=":")
    axes.minorticks_off()
    _note(axes, 0.03, 0.05, "\n".join(textwrap.fill(line, 40) for line in tail_note(row)))


def _draw_bulk(axes: Axes, row: Row, eigenvalues: NDArray[np.float64]) -> None:
    law = bulk_law(row, eigenvalues)
    heights, edges = bulk_histogram(eigenvalues, law, max_bins=80)
    limit = edges[-1]
    axes.stairs(heights, edges, fill=True, color=BARS)
    if law:
        x = np.linspace(0, min(law.lambda_plus, limit), 400)[1:]
        axes.plot(x, law.density(x), color=LAW, linewidth=1.4)
        axes.axvline(law.lambda_plus, color=LAW, linewidth=0.8, linestyle="--")
        spikes = [spike for spike in law.spikes if spike <= limit]
        ground = axes.get_xaxis_transform()
        axes.plot(
            spikes, [0.03] * len(spikes), "v", color="black", markersize=3.5, transform=ground
        )
    _note(axes, 0.98, 0.96, "\n".join(bulk_note(eigenvalues, law, limit)))
    axes.set(xlim=(0, limit), ylim=(0, heights.max() * 1.25), ylabel="density", yticks=[])
