"""The figures of a report: every spectrum with its fits, and alpha over the whole model."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from .._whole_file import written_whole
from ._spectrum_figures import PER_PAGE, Row, draw_spectra

if TYPE_CHECKING:
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
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 140,
}
# alpha is drawn up to here; beyond it says nothing of how heavy a tail is.
TOP_ALPHA = 10.0


def plot_report(
    report: Report, folder: str | Path, *, layers: Sequence[str] | None, progress: bool
) -> list[Path]:
    """See :meth:`Report.plot`."""
    import matplotlib

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
    with matplotlib.rc_context(STYLE):
        paths.append(save_figure(_alpha_by_depth(rows), folder / "alpha_by_depth.png"))
        paths.append(save_figure(_alpha_histogram(rows), folder / "alpha_histogram.png"))
        starts = range(0, len(drawn), PER_PAGE)
        for start in tqdm(starts, desc="spectra", unit="page", disable=not progress):
            page = drawn[start : start + PER_PAGE]
            path = folder / f"spectra_{start // PER_PAGE + 1:03}.png"
            paths.append(save_figure(draw_spectra(report, page), path))
    return paths


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a PNG file, whole or not at all, and gives its path back."""
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")
    return path


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
            np.minimum(alpha, TOP_ALPHA),
            yerr=np.where(alpha > TOP_ALPHA, 0, [row["sigma"] for row in chosen]),
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
    top = min(max(highest + 1.0, 6.5), TOP_ALPHA + 0.4)
    axes.set(ylabel="α ± standard error", ylim=(1, top), xlim=(-0.8, len(names) - 0.2))
    if highest > TOP_ALPHA:
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
    edges = np.arange(1, TOP_ALPHA + 0.26, 0.25)
    fitted = [row for row in rows if row["valid"]]
    chosen = {p: [r["alpha"] for r in fitted if r["phase"] == p] for p in PHASES}
    chosen = {phase: alphas for phase, alphas in chosen.items() if alphas}
    if chosen:
        axes.hist(
            [np.minimum(alphas, TOP_ALPHA + 0.1) for alphas in chosen.values()],
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
