"""The figures of a series, as PNG files."""

from pathlib import Path

import numpy as np

from ..palette import DOTS, LIGHT, PHASES, STYLE
from ._measured import MeasuredSeries
from ._sentences import label

PER_PAGE = (5, 4)
TOP_ALPHA = 10.0


def plot_series(series: MeasuredSeries, folder: str | Path) -> list[Path]:
    """See :meth:`Series.plot`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        paths = [_phases(series, folder / "phases.png", Figure)]
        groups = list(series.matrices())
        size = PER_PAGE[0] * PER_PAGE[1]
        for number, start in enumerate(range(0, len(groups), size), 1):
            figure = Figure(figsize=(11, 11), layout="constrained")
            for place, (key, table) in enumerate(groups[start : start + size], 1):
                axes = figure.add_subplot(*PER_PAGE, place)
                _curve(axes, label(*key), table)
            figure.legend(
                handles=[
                    Line2D([], [], color=DOTS, label="alpha, with its phase"),
                    Line2D([], [], color=LIGHT["color"], linestyle="--", label="stable rank"),
                ],
                loc="outside upper center",
                ncols=2,
                fontsize=8,
            )
            path = folder / f"alpha_{number:03d}.png"
            figure.savefig(path)
            paths.append(path)
    return paths


def _curve(axes, title, table):  # type: ignore[no-untyped-def]
    fitted = table[table["valid"]]
    alpha, sigma = np.minimum(fitted["alpha"], TOP_ALPHA), fitted["sigma"]
    axes.fill_between(fitted["step"], alpha - sigma, alpha + sigma, color="#b9c4d0", linewidth=0)
    axes.plot(fitted["step"], alpha, color=DOTS, linewidth=1)
    for phase, (color, marker) in PHASES.items():
        of = fitted["phase"] == phase
        axes.plot(fitted["step"][of], alpha[of], marker, color=color, markersize=3.5, linestyle="")
    axes.set_title(title if len(title) <= 32 else f"…{title[-31:]}", fontsize=7)
    axes.tick_params(labelsize=7)
    ranks, color = axes.twinx(), LIGHT["color"]
    ranks.plot(table["step"], table["stable_rank"], color=color, linestyle="--", linewidth=1)
    ranks.set_ylim(0, None)
    ranks.tick_params(labelsize=7, colors=color)
    ranks.spines["right"].set_visible(True)
    ranks.spines["right"].set_color(color)
    if not len(fitted):
        axes.text(0.5, 0.5, "no power law", transform=axes.transAxes, ha="center", fontsize=7)


def _phases(series, path, make_figure):  # type: ignore[no-untyped-def]
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    names = list(PHASES)
    steps = series.steps
    place = {step: number for number, step in enumerate(steps)}
    groups = list(series.matrices())
    grid = np.full((len(groups), len(steps)), np.nan)
    for row, (_, table) in enumerate(groups):
        for step, phase in zip(table["step"], table["phase"], strict=True):
            grid[row, place[step]] = names.index(phase) if phase in PHASES else np.nan
    figure = make_figure(figsize=(9, min(2 + 0.16 * len(groups), 30)), layout="constrained")
    axes = figure.add_subplot()
    colors = ListedColormap([PHASES[name][0] for name in names])
    axes.imshow(
        grid, aspect="auto", interpolation="nearest", cmap=colors, vmin=0, vmax=len(names) - 1
    )
    axes.set_xticks([0, len(steps) - 1], [str(steps[0]), str(steps[-1])])
    if len(groups) <= 120:
        axes.set_yticks(range(len(groups)), [label(*key)[-40:] for key, _ in groups], fontsize=6)
    axes.set_xlabel("step")
    used = [name for number, name in enumerate(names) if (grid == number).any()]
    handles = [Patch(color=PHASES[name][0], label=name) for name in used]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=7)
    figure.savefig(path)
    return path
