"""What the experiments' figures are drawn with: their style, lines with errors, spectra."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, NullLocator

from examples.presenting.rows import Group, Layer, Row, test_accuracy, train_accuracy
from examples.training.config import Config
from examples.training.measures import LOCALIZATION
from fitting import palette
from fitting._whole_file import save_figure
from fitting.palette import BARS, DARK, LAW, LIGHT, STYLE

# What has no phase, because training left no finite weights.
PHASES = palette.PHASES | {"DIVERGED": ("#ffffff", "x")}


def line(
    axes: Axes,
    groups: Sequence[Group],
    x: Callable[[Config], float],
    of: Callable[[Row], float],
    label: str,
    style: dict[str, Any],
) -> None:
    """Draws means over the seeds with their standard errors, penalized runs as open diamonds."""
    points = [(x(group.config), group.mean(of), group.error(of)) for group in groups]
    plain = sorted(p for p, group in zip(points, groups, strict=True) if not group.config.penalty)
    penalized = [p for p, group in zip(points, groups, strict=True) if group.config.penalty]
    diamond = {"marker": "D", "linestyle": "", "markerfacecolor": "white", "zorder": 4}
    for part, changes, size in ((plain, {}, 5), (penalized, diamond, 7)):
        if part:
            places, means, errors = np.transpose(part)
            named = {} if changes else {"label": label}
            bars = np.nan_to_num(errors) if np.isfinite(errors).any() else None
            given: dict[str, Any] = {**style, **changes, **named, "markersize": size}
            axes.errorbar(places, means, bars, capsize=2.5, **given)


def against(
    groups: Sequence[Group], title: str, x: Callable[[Config], float], xlabel: str
) -> Figure:
    """Draws stable rank, MP soft rank and accuracy (the paper's Figure 4).

    Args:
        groups: The runs; at least one without a penalty.
        title: What was trained.
        x: What they are drawn against, on a logarithmic axis.
        xlabel: Its name and unit.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        ranks, soft_ranks, accuracy = figure.subplots(1, 3)
        for name, style in (("fc1", DARK), ("fc2", LIGHT)):
            for axes, number in ((ranks, "stable_rank"), (soft_ranks, "mp_soft_rank")):
                line(axes, groups, x, _of_layer(name, number), name.upper(), style)
        line(accuracy, groups, x, train_accuracy, "train", LIGHT)
        line(accuracy, groups, x, test_accuracy, "test", DARK)
        ranks.set(
            title="Stable rank", ylabel=r"$\Vert W\Vert_F^2\; /\; \lambda_{\max}$", ylim=(0, None)
        )
        soft_ranks.set(
            title="MP soft rank", ylabel=r"$\lambda_+ \; / \; \lambda_{\max}$", ylim=(-0.03, 1.05)
        )
        accuracy.set(title="Accuracy", ylabel="share of images right")
        values = sorted({x(group.config) for group in groups})
        for axes in (ranks, soft_ranks, accuracy):
            ticks(axes, values)
            axes.set_xlabel(xlabel)
            axes.grid(axis="y", alpha=0.25)
            handles, labels = axes.get_legend_handles_labels()
            if any(group.config.penalty for group in groups):
                handles.append(Line2D([], [], color="0.3", marker="D", ls="", mfc="white", ms=7))
                labels.append("with penalty")
            axes.legend(handles, labels)
        figure.suptitle(title)
    return figure


def _of_layer(name: str, number: str) -> Callable[[Row], float]:
    return lambda row: getattr(row.layers[name], number)


def ticks(axes: Axes, values: Sequence[float]) -> None:
    """Makes the axis logarithmic, with these values on it."""
    axes.set_xscale("log")
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    if len(values) > 7:
        axes.tick_params(axis="x", labelsize=7)


def spectrum(axes: Axes, layer: Layer, title: str, limits: tuple[float, float]) -> None:
    """Draws a spectrum with its fits, on logarithmic axes."""
    axes.set(xscale="log", yscale="log")
    axes.set_title(f"{title}: {layer.phase}")
    if layer.fits is None:
        return
    eigenvalues = layer.eigenvalues[layer.eigenvalues > 0]
    edges = np.geomspace(*limits, 61)
    heights, _ = np.histogram(eigenvalues, edges)
    axes.stairs(heights / layer.eigenvalues.size / np.diff(edges), edges, fill=True, color=BARS)
    x = np.geomspace(*limits, 2000)
    law = layer.fits.marchenko_pastur
    density = law.density(x)
    axes.plot(x[density > 0], density[density > 0], color=LAW, linewidth=1.6)
    if layer.has_tail:
        tail = layer.fits.power_law
        x = np.geomspace(tail.xmin, layer.lambda_max, 50)
        share = tail.num_tail / layer.eigenvalues.size
        density = share * (tail.alpha - 1) / tail.xmin * (x / tail.xmin) ** -tail.alpha
        axes.plot(x, density, color="black", linestyle="--", linewidth=1.6)
        axes.text(0.97, 0.93, f"α = {tail.alpha:.2f}", transform=axes.transAxes, ha="right")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _limits(layers: Sequence[Layer]) -> tuple[float, float]:
    """Where the axis of the eigenvalues begins and ends."""
    finite = [layer.eigenvalues for layer in layers if layer.fits]
    every = np.concatenate(finite) if finite else np.ones(1)
    # A collapsed layer's zeros would leave the others a corner of their panels.
    smallest = max(every[every > 0].min(), every.max() * 1e-5)
    return smallest / 1.1, every.max() * 1.1


def spectra(
    layers: Sequence[tuple[str, Layer]],
    title: str,
    *,
    name: str = "FC1",
    shared_axes: bool = True,
) -> Figure:
    """Draws spectra side by side, with their fits (the paper's Figure 5).

    Args:
        layers: The title of each panel, and what it shows.
        title: What was trained.
        name: Of the layer.
        shared_axes: Whether all panels have the same axes, or each its own.
    """
    limits = _limits([layer for _, layer in layers])
    num_columns = 3
    num_rows = -(-len(layers) // num_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.9 + 2.4 * num_rows), layout="constrained")
        grid = figure.subplots(
            num_rows, num_columns, sharex=shared_axes, sharey=shared_axes, squeeze=False
        )
        for axes, (panel, layer) in zip(grid.flat, layers, strict=False):
            spectrum(axes, layer, panel, limits if shared_axes else _limits([layer]))
            axes.tick_params(labelbottom=True)
        for axes in grid[:, 0]:
            axes.set_ylabel("density")
        # The last panel of each column carries the label, though the grid may go on empty below.
        for axes in grid.flat[max(0, len(layers) - num_columns) : len(layers)]:
            axes.set_xlabel("eigenvalue λ of WᵀW")
        handles = [
            Patch(color=BARS, label=f"{name}, eigenvalues"),
            Line2D([], [], color=LAW, label="Marchenko-Pastur fit"),
            Line2D([], [], color="black", linestyle="--", label="power-law fit"),
        ]
        free = list(grid.flat[len(layers) :])
        for axes in free:
            axes.set_axis_off()
        if free:
            free[0].legend(handles=handles, loc="center", fontsize=10)
        else:
            figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG into a folder that is made if it is not there, and gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(figure, path)


def localization_by_batch_size(groups: Sequence[Group], title: str) -> Figure:
    """Draws how localized bulk and spike directions are, against the batch size.

    Args:
        groups: The runs.
        title: What was trained.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), ("fc1", "fc2"), strict=True):
            for part, style in (("spikes", DARK), ("bulk", LIGHT)):
                line(axes, groups, lambda run: run.batch_size, _localized(name, part), part, style)
            ticks(axes, sorted({group.config.batch_size for group in groups}))
            axes.set(title=name.upper(), xlabel="batch size [images]")
            axes.set_ylabel("participation ratio\n(smaller: more localized)")
            axes.grid(axis="y", alpha=0.25)
            axes.legend()
        figure.suptitle(title)
    return figure


def _localized(name: str, part: str) -> Callable[[Row], float]:
    column = LOCALIZATION.index(f"{part}_participation_ratio")
    return lambda row: float(row.cell.arrays[f"localization_{name}"][-1][column])
