"""The figures of a sweep over batch sizes, drawn from its finished cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from examples.report import Row

# Dark and light: the pair stays apart in greyscale, and marker and line style say it again.
_DARK = {"color": "#123a6b", "marker": "o", "linestyle": "-"}
_LIGHT = {"color": "#e8963a", "marker": "s", "linestyle": "--"}
_BARS, _LAW = "#b9c4d0", "#c8102e"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 160,
}


def _line(
    axes: Axes, rows: Sequence[Row], values: Sequence[float], label: str, style: dict[str, Any]
) -> None:
    """Draws plain cells as a line and cells with a penalty as an open diamond beside it."""
    points = [(row.cell.config.batch_size, value) for row, value in zip(rows, values, strict=True)]
    plain = sorted(p for p, row in zip(points, rows, strict=True) if not row.cell.config.penalty)
    penalized = [p for p, row in zip(points, rows, strict=True) if row.cell.config.penalty]
    axes.plot(*np.transpose(plain), label=label, markersize=5, **style)
    if penalized:
        diamond: dict[str, Any] = {
            "marker": "D",
            "linestyle": "",
            "markerfacecolor": "white",
            "markersize": 7,
        }
        axes.plot(*np.transpose(penalized), **{**style, **diamond}, zorder=4)


def against_batch_size(rows: Sequence[Row], title: str) -> Figure:
    """Draws stable rank, MP soft rank and accuracy against batch size (the paper's Figure 4).

    Args:
        rows: The sweep's cells; at least one without a penalty.
        title: What was trained.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        ranks, soft_ranks, accuracy = figure.subplots(1, 3)
        for name, style in (("fc1", _DARK), ("fc2", _LIGHT)):
            layers = [row.layers[name] for row in rows]
            _line(ranks, rows, [layer.stable_rank for layer in layers], name.upper(), style)
            soft = [layer.fits.mp_soft_rank if layer.fits else np.nan for layer in layers]
            _line(soft_ranks, rows, soft, name.upper(), style)
        for name, style in (("train", _LIGHT), ("test", _DARK)):
            values = [row.cell.metrics[f"final_{name}_accuracy"] for row in rows]
            _line(accuracy, rows, values, name, style)
        ranks.set(
            title="Stable rank", ylabel=r"$\Vert W\Vert_F^2\; /\; \lambda_{\max}$", ylim=(0, None)
        )
        soft_ranks.set(
            title="MP soft rank", ylabel=r"$\lambda_+ \; / \; \lambda_{\max}$", ylim=(-0.03, 1.05)
        )
        accuracy.set(title="Accuracy", ylabel="share of images right")
        sizes = sorted({row.cell.config.batch_size for row in rows})
        for axes in (ranks, soft_ranks, accuracy):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("batch size [images]")
            axes.grid(axis="y", alpha=0.25)
            handles, labels = axes.get_legend_handles_labels()
            if any(row.cell.config.penalty for row in rows):
                handles.append(Line2D([], [], color="0.3", marker="D", ls="", mfc="white", ms=7))
                labels.append("with penalty")
            axes.legend(handles, labels)
        figure.suptitle(title)
    return figure


def _spectrum(axes: Axes, row: Row, name: str, limits: tuple[float, float]) -> None:
    layer = row.layers[name]
    config = row.cell.config
    phase = layer.fits.phase.name if layer.fits else "DIVERGED"
    axes.set_title(f"b = {config.batch_size}{' + penalty' if config.penalty else ''}: {phase}")
    if layer.fits is None:
        return
    eigenvalues = layer.eigenvalues[layer.eigenvalues > 0]
    edges = np.geomspace(*limits, 61)
    heights, _ = np.histogram(eigenvalues, edges)
    axes.stairs(heights / layer.eigenvalues.size / np.diff(edges), edges, fill=True, color=_BARS)
    x = np.geomspace(*limits, 2000)
    law = layer.fits.marchenko_pastur
    density = law.density(x)
    axes.plot(x[density > 0], density[density > 0], color=_LAW, linewidth=1.6)
    if layer.has_tail:
        tail = layer.fits.power_law
        x = np.geomspace(tail.xmin, layer.lambda_max, 50)
        share = tail.num_tail / layer.eigenvalues.size
        density = share * (tail.alpha - 1) / tail.xmin * (x / tail.xmin) ** -tail.alpha
        axes.plot(x, density, color="black", linestyle="--", linewidth=1.6)
        axes.text(0.97, 0.93, f"α = {tail.alpha:.2f}", transform=axes.transAxes, ha="right")


def spectra(rows: Sequence[Row], title: str, *, layer: str = "fc1") -> Figure:
    """Draws the spectrum of a layer for every cell, with its fits (the paper's Figure 5).

    Args:
        rows: The sweep's cells.
        title: What was trained.
        layer: Which layer.
    """
    finite = [row.layers[layer].eigenvalues for row in rows if row.layers[layer].fits]
    every = np.concatenate(finite) if finite else np.ones(1)
    limits = (every[every > 0].min() / 1.1, every.max() * 1.1)
    num_columns = 3
    num_rows = -(-len(rows) // num_columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 0.9 + 2.4 * num_rows), layout="constrained")
        grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        for axes, row in zip(grid.flat, rows, strict=False):
            axes.set(xscale="log", yscale="log")
            _spectrum(axes, row, layer, limits)
            axes.tick_params(labelbottom=True)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        for axes in grid[:, 0]:
            axes.set_ylabel("density")
        # The last panel of each column carries the label, though the grid may go on empty below.
        for axes in grid.flat[max(0, len(rows) - num_columns) : len(rows)]:
            axes.set_xlabel("eigenvalue λ of WᵀW")
        handles = [
            Patch(color=_BARS, label=f"{layer.upper()}, eigenvalues"),
            Line2D([], [], color=_LAW, label="Marchenko-Pastur fit"),
            Line2D([], [], color="black", linestyle="--", label="power-law fit"),
        ]
        free = list(grid.flat[len(rows) :])
        for axes in free:
            axes.set_axis_off()
        if free:
            free[0].legend(handles=handles, loc="center", fontsize=10)
        else:
            figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, and gives its path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
