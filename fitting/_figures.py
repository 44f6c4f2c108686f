"""The figures of a report: every spectrum with its fits, and alpha over the whole model."""

from __future__ import annotations

import fnmatch
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ._bulk_fit import fit_marchenko_pastur

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._report import Report

# Okabe and Ito's colours, which stay apart for the colour-blind; the marker says it again.
PHASES = {
    "RANDOM_LIKE": ("#56b4e9", "o"),
    "BLEEDING_OUT": ("#0072b2", "s"),
    "BULK_SPIKES": ("#009e73", "^"),
    "BULK_DECAY": ("#e69f00", "D"),
    "HEAVY_TAILED": ("#d55e00", "v"),
    "RANK_COLLAPSE": ("#cc79a7", "X"),
    "UNCLASSIFIED": ("#777777", "P"),
}
_BARS, _LAW, _DOTS = "#b9c4d0", "#c8102e", "#123a6b"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 140,
}
_NUM_ROWS, _NUM_COLUMNS = 5, 2
_PER_PAGE = _NUM_ROWS * _NUM_COLUMNS
# alpha is drawn up to here; beyond it says nothing of how heavy a tail is.
_TOP_ALPHA = 10.0

Row = dict[str, Any]


def plot_report(
    report: Report, folder: str | Path, *, layers: Sequence[str] | None, progress: bool
) -> list[Path]:
    """See :meth:`Report.plot`."""
    import matplotlib as mpl

    rows: list[Row] = report.layers.to_dict("records")  # type: ignore[assignment]
    drawn = [
        row
        for row in rows
        if layers is None or any(fnmatch.fnmatchcase(row["name"], p) for p in layers)
    ]
    if not drawn:
        names = sorted({row["name"] for row in rows})
        raise ValueError(f"no layer matches {layers}; the layers are {names}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context(_STYLE):
        paths.append(_save(_alpha_by_depth(rows), folder / "alpha_by_depth.png"))
        paths.append(_save(_alpha_histogram(rows), folder / "alpha_histogram.png"))
        starts = range(0, len(drawn), _PER_PAGE)
        for start in tqdm(starts, desc="spectra", unit="page", disable=not progress):
            page = drawn[start : start + _PER_PAGE]
            path = folder / f"spectra_{start // _PER_PAGE + 1:03}.png"
            paths.append(_save(_spectra(report, page), path))
    return paths


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)
    return path


def label(row: Row, *, length: int = 44) -> str:
    """A matrix by name and place, the start cut off where it is long."""
    name = row["name"].removesuffix("/kernel") + (f"[{row['index']}]" if row["index"] else "")
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _alpha_by_depth(rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["name"] for row in rows))
    place = {name: i for i, name in enumerate(names)}
    num_in: dict[str, int] = {}
    for row in rows:
        # The slices of a convolution stand side by side, within the width of their layer.
        row["slice"] = num_in.get(row["name"], 0)
        num_in[row["name"]] = row["slice"] + 1
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    missing = [place[row["name"]] for row in rows if not row["valid"]]
    for phase, (color, marker) in PHASES.items():
        chosen = [row for row in rows if row["valid"] and row["phase"] == phase]
        if not chosen:
            continue
        x = [
            place[row["name"]] + 0.7 * ((row["slice"] + 0.5) / num_in[row["name"]] - 0.5)
            for row in chosen
        ]
        alpha = np.array([row["alpha"] for row in chosen])
        axes.errorbar(
            x,
            np.minimum(alpha, _TOP_ALPHA),
            yerr=np.where(alpha > _TOP_ALPHA, 0, [row["sigma"] for row in chosen]),
            color=color,
            marker=marker,
            linestyle="",
            markersize=5,
            elinewidth=0.8,
            # alpha of what looks like noise is no tail's: an open mark.
            markerfacecolor="white" if phase == "RANDOM_LIKE" else color,
            label=f"{phase} ({len(chosen)})",
        )
    if missing:
        ground = axes.get_xaxis_transform()
        no_fit = f"no power law ({len(missing)})"
        axes.plot(missing, [0.015] * len(missing), "k|", transform=ground, label=no_fit)
    for bound in (2, 6):
        axes.axhline(bound, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    highest = max((row["alpha"] for row in rows if row["valid"]), default=2.0)
    top = min(max(highest + 1.0, 6.5), _TOP_ALPHA + 0.4)
    axes.set(ylabel="α ± standard error", ylim=(1, top), xlim=(-0.8, len(names) - 0.2))
    if highest > _TOP_ALPHA:
        axes.set_yticks([2, 4, 6, 8, 10], ["2", "4", "6", "8", "≥ 10"])
    if len(names) <= 40:
        short = [name.removesuffix("/kernel") for name in names]
        axes.set_xticks(range(len(names)), [s if len(s) < 25 else f"…{s[-23:]}" for s in short])
        axes.tick_params(axis="x", rotation=60, labelsize=7)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    else:
        axes.set_xlabel("layer, in the order of the report")
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    return figure


def _alpha_histogram(rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = np.arange(1, _TOP_ALPHA + 0.26, 0.25)
    fitted = [row for row in rows if row["valid"]]
    chosen = {p: [r["alpha"] for r in fitted if r["phase"] == p] for p in PHASES}
    chosen = {phase: alphas for phase, alphas in chosen.items() if alphas}
    if chosen:
        axes.hist(
            [np.minimum(alphas, _TOP_ALPHA + 0.1) for alphas in chosen.values()],
            bins=edges.tolist(),
            stacked=True,
            color=[PHASES[phase][0] for phase in chosen],
            label=[f"{phase} ({len(alphas)})" for phase, alphas in chosen.items()],
            edgecolor="white",
            linewidth=0.5,
        )
        axes.legend(fontsize=8)
    axes.set_xticks([*range(1, 11)], [*map(str, range(1, 10)), "≥ 10"])
    axes.set(xlabel="α", ylabel="matrices")
    axes.set_title(f"{len(fitted)} of {len(rows)} matrices have a power-law fit")
    return figure


def _spectra(report: Report, rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    num_rows = -(-len(rows) // _NUM_COLUMNS)
    figure = Figure(figsize=(13.0, 1.0 + 2.3 * num_rows))
    grid = figure.subplots(num_rows, 2 * _NUM_COLUMNS, squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.052, right=0.99, top=1 - 0.75 / height, bottom=0.5 / height, wspace=0.2, hspace=0.6
    )
    figure.legend(handles=_key(), loc="upper center", ncols=5)
    for i in range(num_rows * _NUM_COLUMNS):
        line, column = divmod(i, _NUM_COLUMNS)
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
        if line == num_rows - 1 or i + _NUM_COLUMNS >= len(rows):
            loglog.set_xlabel("eigenvalue λ")
            linear.set_xlabel("eigenvalue λ")
    return figure


def _key() -> list[Artist]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=_DOTS, marker=".", linestyle="", label="eigenvalues"),
        Line2D([], [], color=_LAW, label="fit: power law, Marchenko-Pastur"),
        Line2D([], [], color="0.5", linestyle=":", label="xmin, where the tail starts"),
        Line2D([], [], color=_LAW, linestyle="--", linewidth=0.8, label="λ+, where noise ends"),
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
    axes.plot(positive, share, ".", color=_DOTS, markersize=2.5)
    axes.set(xscale="log", yscale="log", ylabel="share ≥ λ")
    # The last few decades: what lies far below says nothing here.
    axes.set_xlim(max(positive[-1], positive[0] * 1e-5) / 1.4, positive[0] * 1.6)
    note = textwrap.fill(f"no fit: {row['reason']}", 40)
    if row["valid"]:
        x = np.array([row["xmin"], positive[0]])
        law = row["num_tail"] / eigenvalues.size * (x / row["xmin"]) ** (1 - row["alpha"])
        axes.plot(x, law, color=_LAW, linewidth=1.6)
        axes.axvline(row["xmin"], color="0.5", linewidth=0.8, linestyle=":")
        note = f"α = {row['alpha']:.2f} ± {row['sigma']:.2f}\ntail of {row['num_tail']}"
    axes.minorticks_off()
    _note(axes, 0.03, 0.05, note)


def _draw_bulk(axes: Axes, row: Row, eigenvalues: NDArray[np.float64]) -> None:
    top = eigenvalues.max()
    shape = (row["rows"], row["cols"])
    # No single Marchenko-Pastur law describes the pooled eigenvalues of several matrices.
    fit = fit_marchenko_pastur(eigenvalues, shape) if eigenvalues.size == min(shape) else None
    edge = fit.lambda_plus if fit and fit.valid else np.quantile(eigenvalues, 0.9)
    limit = top * 1.03 if top < 5 * edge else 5 * edge
    num_bins = int(np.clip(2 * np.sqrt(eigenvalues.size), 12, 80))
    heights, edges = np.histogram(eigenvalues, num_bins, (0, limit))
    heights = heights / eigenvalues.size / np.diff(edges)
    axes.stairs(heights, edges, fill=True, color=_BARS)
    note = "no Marchenko-Pastur bulk"
    if fit and fit.valid:
        x = np.linspace(0, min(fit.lambda_plus, limit), 400)[1:]
        axes.plot(x, fit.density(x), color=_LAW, linewidth=1.4)
        axes.axvline(fit.lambda_plus, color=_LAW, linewidth=0.8, linestyle="--")
        spikes = [spike for spike in fit.spikes if spike <= limit]
        ground = axes.get_xaxis_transform()
        axes.plot(
            spikes, [0.03] * len(spikes), "v", color="black", markersize=3.5, transform=ground
        )
        note = f"λ+ = {fit.lambda_plus:.3g}\n{fit.num_spikes} spikes"
    elif fit is None:
        note = "several matrices pooled:\nno single Marchenko-Pastur law"
    if beyond := int((eigenvalues > limit).sum()):
        note += f"\n{beyond} beyond, to {top:.3g} →"
    _note(axes, 0.98, 0.96, note)
    axes.set(xlim=(0, limit), ylim=(0, heights.max() * 1.25), ylabel="density", yticks=[])
