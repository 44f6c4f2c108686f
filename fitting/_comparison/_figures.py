"""The figures of a comparison: quality against each metric, and layers against depth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._whole_file import save_figure
from ..palette import DARK, LAW, SERIES, STYLE
from ._compared import Compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LAYER_PANELS = ("lambda_max", "alpha", "stable_rank", "spectrum_change")


def is_drawable(comparison: Compared) -> bool:
    """Whether there is anything to draw; more models than colours are no picture of layers."""
    has_layers = comparison.layers is not None and len(comparison.values) <= len(SERIES)
    return has_layers or comparison.quality is not None


def plot_comparison(comparison: Compared, folder: Path) -> list[Path]:
    """Draws what there is to draw; see :meth:`Comparison.plot`."""
    import matplotlib

    if not is_drawable(comparison):
        raise ValueError(
            "the comparison has nothing to draw; expected a quality of each model, or layers "
            f"that up to {len(SERIES)} models share"
        )
    figures: dict[str, Figure] = {}
    with matplotlib.rc_context(STYLE | {"axes.titlesize": 9}):
        if comparison.quality is not None:
            if comparison.reference in comparison.values:
                figures["alpha_hat.png"] = _reference_figure(comparison)
            figures["metrics.png"] = _metrics_figure(comparison)
        if comparison.layers is not None and len(comparison.values) <= len(SERIES):
            figures["layers.png"] = _layers_figure(comparison.layers, list(comparison.values.index))
        folder.mkdir(parents=True, exist_ok=True)
        return [save_figure(figure, folder / name) for name, figure in figures.items()]


def _reference_figure(comparison: Compared) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, comparison, comparison.reference, labels=True)
    axes.set(xlabel=comparison.reference, ylabel="quality")
    return figure


def _metrics_figure(comparison: Compared) -> Figure:
    """Controls first, in bold, then the metrics by how much of the quality they explain."""
    from matplotlib.figure import Figure

    table = comparison.table
    metrics = table.drop(index=list(comparison.controls)).sort_values("r2", ascending=False)
    names = [*comparison.controls, *metrics.index[metrics["r2"].notna()]]
    num_columns = 4
    num_rows = -(-len(names) // num_columns)
    figure = Figure(figsize=(10, 0.4 + 2.2 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        _scatter(axes, comparison, name, labels=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("quality")
    return figure


def _scatter(axes: Axes, comparison: Compared, name: str, *, labels: bool) -> None:
    x, y = comparison.values[name], comparison.quality
    assert y is not None
    row = comparison.table.loc[name]
    axes.plot(x, y, "o", color=DARK["color"], markersize=5 if labels else 4)
    if np.isfinite(row["slope"]):
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, row["intercept"] + row["slope"] * ends, "--", color=LAW, zorder=0)
    title = f"R² {row['r2']:.2f}, τ {row['tau']:+.2f}, p {row['tau_p']:.1g}"
    if not labels:
        title = f"{name}\n{title}"
    else:
        title = f"RMSE {row['rmse']:.2f}, {title}, {row['num_models']:.0f} models"
        axes.margins(0.12, 0.08)
        _label(axes, x, y)
    axes.set_title(title, fontweight="bold" if name in comparison.controls else "normal")


def _label(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Writes the models' names beside their points, on the side that has more room."""
    middle = (x.min() + x.max()) / 2
    height = np.ptp(y) or 1.0
    written: list[tuple[float, bool]] = []
    for model in y.sort_values().index:
        if not np.isfinite(x[model]):
            continue
        left = bool(x[model] > middle)
        # A name right above another is pushed up by a line.
        near = any(side == left and y[model] - at < 0.03 * height for at, side in written)
        written.append((float(y[model]), left))
        axes.annotate(
            str(model),
            (x[model], y[model]),
            (-6 if left else 6, 5 if near else -3),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7.5,
        )


def _layers_figure(layers: pd.DataFrame, models: list[str]) -> Figure:
    from matplotlib.figure import Figure

    depth = np.arange(len(layers))
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    for axes, quantity in zip(figure.subplots(2, 2, sharex=True).flat, LAYER_PANELS, strict=True):
        for number, model in enumerate(models):
            if model not in layers[quantity]:
                continue
            style = SERIES[number] | {"linestyle": "", "markersize": 3.5}
            values = layers[quantity][model].astype("float64")
            label = f" {model}" if str(model).startswith("_") else model  # else it has no legend
            axes.plot(depth, values, label=label, alpha=0.8, **style)
        axes.set_title(
            f"spectrum_change from {models[0]}" if quantity == "spectrum_change" else quantity
        )
        axes.grid(axis="y", alpha=0.25)
        if quantity == "lambda_max":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, None)
        axes.legend(fontsize=8)
        if axes.get_subplotspec().is_last_row():
            axes.set_xlabel("shared matrix, in the order of the report")
    return figure
