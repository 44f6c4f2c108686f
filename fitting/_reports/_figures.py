"""The figures of a report: every spectrum with its fits, and alpha over the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from spectral_reg._trees import check_patterns, matches

from .._whole_file import save_figure
from ..palette import PHASES, STYLE
from ._drawing import ALPHA_BINS, TOP_ALPHA, alpha_axis, alpha_counts, alpha_tick, depths
from ._measurements import Measurements, Row
from ._spectrum_figures import PER_PAGE, draw_spectra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_report(
    report: Measurements,
    folder: str | Path | None,
    *,
    layers: Sequence[str] | None,
    progress: bool,
) -> list[Any]:
    """See :meth:`Report.plot`."""
    import matplotlib

    rows: list[Row] = report.layers.to_dict("records")  # type: ignore[assignment]
    check_patterns(layers or (), dict.fromkeys(row["name"] for row in rows), "layers")
    drawn = [row for row in rows if layers is None or any(matches(row["name"], p) for p in layers)]
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    found = []
    with matplotlib.rc_context(STYLE):
        for name, figure in _figures(report, rows, drawn, progress=progress):
            found.append(figure if folder is None else save_figure(figure, Path(folder) / name))
    return found


def _figures(
    report: Measurements, rows: list[Row], drawn: list[Row], *, progress: bool
) -> Iterator[tuple[str, Figure]]:
    """The files' names and what is drawn in each, one at a time."""
    yield "alpha_by_depth.png", _alpha_by_depth(rows)
    yield "alpha_histogram.png", _alpha_histogram(rows)
    starts = range(0, len(drawn), PER_PAGE)
    for start in tqdm(starts, desc="spectra", unit="page", disable=not progress):
        page = draw_spectra(report, drawn[start : start + PER_PAGE])
        yield f"spectra_{start // PER_PAGE + 1:03}.png", page


def _alpha_by_depth(rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["name"] for row in rows))
    places = depths(rows)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    missing = [place for place, row in zip(places, rows, strict=True) if not row["valid"]]
    for phase, (color, marker) in PHASES.items():
        chosen = [i for i, row in enumerate(rows) if row["valid"] and row["phase"] == phase]
        if not chosen:
            continue
        alpha = np.array([rows[i]["alpha"] for i in chosen])
        axes.errorbar(
            [places[i] for i in chosen],
            np.minimum(alpha, TOP_ALPHA),
            yerr=np.where(alpha > TOP_ALPHA, 0, [rows[i]["sigma"] for i in chosen]),
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
    top, ticks = alpha_axis(rows)
    axes.set(ylabel="α ± standard error", ylim=(1, top), xlim=(-0.8, len(names) - 0.2))
    axes.set_yticks([alpha for alpha, _ in ticks], [text for _, text in ticks])
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
    counts = {phase: alpha_counts(rows, phase) for phase in PHASES}
    bottom = np.zeros(ALPHA_BINS.size - 1)
    for phase, heights in counts.items():
        if heights.any():
            axes.stairs(
                bottom + heights,
                ALPHA_BINS,
                baseline=bottom,
                fill=True,
                color=PHASES[phase][0],
                label=f"{phase} ({heights.sum()})",
            )
            bottom += heights
    if bottom.any():
        axes.legend(fontsize=8)
    marks = range(1, int(TOP_ALPHA) + 1)
    axes.set_xticks(marks, map(alpha_tick, marks))
    axes.set(xlabel="α", ylabel="matrices")
    axes.set_title(f"{bottom.sum():.0f} of {len(rows)} matrices have a power-law fit")
    return figure
