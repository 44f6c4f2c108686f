"""Tables and figures of `explicit_penalty.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from rich import box
from rich.console import Console
from rich.table import Table

from examples.presenting import figures, report
from examples.presenting.gap import closed
from examples.presenting.record import with_error
from examples.presenting.rows import Group, Row, row, test_accuracy, train_accuracy
from examples.sweeping import command
from examples.sweeping.presets import seeds_of
from examples.sweeping.stages import ENOUGH, Stages
from examples.training.config import Config
from examples.training.penalties import MULTIPLES, POWER_LAWS
from fitting import palette

PHASES = tuple(figures.PHASES)[:6]


def _table(*headers: str) -> Table:
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, header in enumerate(headers):
        side: Literal["left", "right"] = "right" if 0 < number < 5 else "left"
        result.add_column(header, justify=side, no_wrap="reached" not in header)
    return result


def search_table(now: Stages, rows: dict[Config, Row]) -> Table:
    """Every run of the search, and the controls: accuracies, FC1's stable rank, both phases."""
    result = _table("penalty", "strength", "train", "valid.", "R_s", "FC1 phase", "FC2 phase")

    def add(name: str, config: Config) -> None:
        if config in rows:
            measured = rows[config]
            fc1, fc2 = (measured.layers[layer] for layer in ("fc1", "fc2"))
            result.add_row(
                name,
                f"{config.strength:g}" if config.penalty else "",
                f"{train_accuracy(measured):.3f}",
                f"{test_accuracy(measured):.3f}",
                f"{fc1.stable_rank:.1f}",
                fc1.phase,
                fc2.phase,
            )

    for penalty, runs in now.search.items():
        for multiple, config in sorted(runs.items()):
            best = "*" if now.best.get(penalty) == multiple else ""
            add(f"{penalty}{best}" if config.penalty else f"none, b = {config.batch_size}", config)
        if penalty in now.controls:
            add("  control of *", now.controls[penalty])
    return result


def phases_table(now: Stages, rows: dict[Config, Row]) -> Table:
    """Which phases each penalty reaches in FC1 or FC2 at any of its strengths, and which not."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("penalty", "reached", "not reached"):
        result.add_column(header)
    for penalty in ("", *MULTIPLES):
        configs = [c for c in now.search.get(penalty, {}).values() if c in rows]
        seen = {layer.phase for c in configs for layer in rows[c].layers.values()}
        if configs:
            reached = [phase for phase in figures.PHASES if phase in seen]
            others = [phase for phase in PHASES if phase not in seen]
            result.add_row(penalty or "none", ", ".join(reached), ", ".join(others))
    return result


def finalist_groups(now: Stages, finished: command.Finished) -> dict[str, Group]:
    """The finalists of which every seed is there."""
    options, preset = finished.options, finished.preset
    result = {}
    for name, config in now.finalists.items():
        configs = seeds_of(config, options.seed, preset.num_seeds)
        if all(each in finished.cells for each in configs):
            result[name] = Group(config, [row(finished.cells[each]) for each in configs])
    return result


def name_of(name: str, config: Config) -> str:
    """What a finalist is called."""
    if name in ("none", "reference", "small batch"):
        return f"none, b = {config.batch_size}"
    label = f"{config.penalty} {config.strength:g}"
    return f"{label}, control" if config.norm_matched else label


def exponent(group: Group) -> str:
    """Mean exponent of FC1's tail over the seeds that have one; empty if none has."""

    def alpha(row: Row) -> float:
        return row.layers["fc1"].alpha

    mean = group.mean(alpha)
    return with_error(mean, group.error(alpha), ".2f") if np.isfinite(mean) else ""


def finalists_table(finalists: dict[str, Group]) -> Table:
    """Accuracies of the finalists over the seeds, and the share of the gap that each closes."""
    result = _table("run", "train", "test ± s.e.", "gap closed", "FC1 α", "FC1 phase")
    ends = [finalists.get(name) for name in ("none", "reference")]
    for name, group in finalists.items():
        share = ""
        if ends[0] and ends[1] and name not in ("none", "reference"):
            plain, reference = (end.values(test_accuracy) for end in ends if end)
            part = closed(plain, group.values(test_accuracy), reference)
            share = with_error(part.share, part.error, ".2f") if part.is_gap else "no gap"
        result.add_row(
            "  its control" if group.config.norm_matched else name_of(name, group.config),
            f"{group.mean(train_accuracy):.3f}",
            with_error(group.mean(test_accuracy), group.error(test_accuracy), ".4f"),
            share,
            exponent(group).partition(" ")[0],
            group.phase("fc1").replace(", ", "\n"),
        )
    return result


def verdict(now: Stages, finalists: dict[str, Group]) -> str:
    """Answers the question in words, from the numbers."""
    sentences = []
    if now.reached:
        large, small = now.reached
        both = "Both reach" if min(now.reached) >= ENOUGH else "They do not both reach"
        sentences.append(
            f"At equal epochs the large batch ends at {large:.3f} training accuracy and the"
            f" reference at {small:.3f}. {both} {ENOUGH:.0%}."
        )
    if now.comparison:
        sentences.append(f"The runs compared have equal {now.comparison}.")
    if not {"none", "reference", "best penalty"} <= finalists.keys():
        return " ".join([*sentences, "The finalists are not finished."])
    arms = [finalists[name].values(test_accuracy) for name in ("none", "best penalty", "reference")]
    part = closed(*arms)
    sizes = [finalists[name].config.batch_size for name in ("none", "reference")]
    gap = with_error(part.gap, part.gap_error, ".4f")
    sentences.append(
        f"From b = {sizes[0]} to b = {sizes[1]} the test accuracy rises by {gap}"
        f" over {len(arms[0])} seed{'s' if len(arms[0]) > 1 else ''}."
    )
    if not part.is_gap:
        return " ".join([*sentences, "There is no gap to close."])
    share = with_error(part.share, part.error, ".2f")
    goal = "at least half of it" if part.share >= 0.5 else "less than half of it"
    name = finalists["best penalty"].config.penalty
    sentences.append(f"The best penalty, {name}, closes {share} of the gap: {goal}.")

    def share_of(name: str) -> str:
        part = closed(arms[0], finalists[name].values(test_accuracy), arms[2])
        return with_error(part.share, part.error, ".2f")

    if "its control" in finalists:
        alone = share_of("its control")
        sentences.append(f"Its norms alone, without its directions, close {alone}.")
    for penalty in POWER_LAWS:
        if penalty in finalists:
            tail = f"A tail of exponent {POWER_LAWS[penalty]:g}, {exponent(finalists[penalty])} in"
            sentences.append(f"{tail} the exact fit of FC1, closes {share_of(penalty)}.")
        if f"{penalty}, control" in finalists:
            alone = share_of(f"{penalty}, control")
            sentences.append(f"Its norms alone close {alone}.")
    return " ".join(sentences)


def draw_search(now: Stages, rows: dict[Config, Row], title: str) -> Figure:
    """Draws the phase and the validation accuracy that each penalty has at each strength."""
    seen = set()
    names = [penalty for penalty in MULTIPLES if penalty in now.search]
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        phases, accuracy = figure.subplots(1, 2, sharey=True)
        for place, penalty in enumerate(names):
            for multiple, config in now.search[penalty].items():
                if config not in rows:
                    continue
                x = multiple / 1000 if penalty in POWER_LAWS else multiple
                for layer, shift in (("fc1", -0.16), ("fc2", 0.16)):
                    phase = rows[config].layers[layer].phase
                    seen.add(phase)
                    colour, marker = figures.PHASES[phase]
                    phases.plot(x, place + shift, marker, color=colour, mec="black", mew=0.5, ms=7)
                colour, marker = figures.PHASES[rows[config].layers["fc1"].phase]
                value = test_accuracy(rows[config])
                accuracy.plot(value, place, marker, color=colour, mec="black", mew=0.5, ms=7)
                if now.best.get(penalty) == multiple:
                    accuracy.plot(value, place, "o", mfc="none", mec="black", ms=12)
            control = now.controls.get(penalty)
            if control in rows and control is not None:
                accuracy.plot(test_accuracy(rows[control]), place, "|", color="black", ms=14, mew=2)
        for penalty, style in (("", "-"), ("reference", "--")):
            for config in now.search.get(penalty, {}).values():
                if config in rows:
                    value = test_accuracy(rows[config])
                    accuracy.axvline(value, color="0.4", ls=style, lw=1, zorder=0)
                    label = f"b = {config.batch_size}"
                    accuracy.annotate(label, (value, -0.7), fontsize=7, ha="center", va="bottom")
        phases.set(
            xscale="log",
            title="Phase of FC1 (above) and FC2 (below)",
            xlabel="strength, in units of its search (dropout: rate; power laws: thousands)",
        )
        phases.xaxis.set_major_formatter("{x:g}")
        phases.xaxis.set_minor_formatter(NullFormatter())
        phases.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        phases.set_ylim(len(names) - 0.4, -0.75)
        accuracy.set(
            title="Circled: the best; bar: its norm-matched control",
            xlabel="share of the validation images right",
        )
        for axes in (phases, accuracy):
            axes.grid(axis="y", alpha=0.25)
            axes.set_title(axes.get_title(), pad=14)
        handles = [
            Line2D([], [], marker=marker, ls="", color=colour, mec="black", label=phase)
            for phase, (colour, marker) in figures.PHASES.items()
            if phase in seen
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=6)
        figure.suptitle(title)
    return figure


def draw_gap(finalists: dict[str, Group], title: str) -> Figure:
    """Draws the test accuracy of the finalists: every seed, mean and standard error."""
    with matplotlib.rc_context(palette.STYLE):
        figure = Figure(figsize=(7.2, 0.9 + 0.45 * len(finalists)), layout="constrained")
        axes = figure.subplots()
        order = sorted(finalists, key=lambda name: finalists[name].mean(test_accuracy))
        for place, name in enumerate(order):
            group = finalists[name]
            values = group.values(test_accuracy)
            seeds = np.full(len(values), place - 0.2)
            axes.plot(values, seeds, "o", color=palette.LIGHT["color"], ms=4.5, alpha=0.8)
            error = np.nan_to_num(group.error(test_accuracy))
            style: dict[str, Any] = {
                "fmt": "D",
                "color": palette.DARK["color"],
                "ms": 6,
                "capsize": 4,
                "zorder": 3,
            }
            axes.errorbar(group.mean(test_accuracy), place, xerr=error, **style)
        axes.set_yticks(range(len(order)), [name_of(n, finalists[n].config) for n in order])
        axes.set(xlabel="share of the test images right (dots: seeds; bars: standard error)")
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.grid(axis="x", alpha=0.25)
        axes.set_title(title)
    return figure


def present(now: Stages, finished: command.Finished) -> Sequence[Path]:
    """Prints and writes the tables, draws the figures, and gives their paths."""
    rows = {config: row(cell) for config, cell in finished.cells.items()}
    finalists = finalist_groups(now, finished)
    title = report.network(finished.preset.baseline)
    tables: list[Table | str] = [
        verdict(now, finalists),
        finalists_table(finalists),
        search_table(now, rows),
        phases_table(now, rows),
    ]
    console = Console()
    for part in tables:
        console.print(part)
    folder = finished.folder
    paths = [figures.save(draw_search(now, rows, title), folder / "search.png")]
    if finalists:
        paths.append(figures.save(draw_gap(finalists, title), folder / "gap.png"))
    cells = list(finished.cells.values())
    paths.append(report.write(folder / "results.md", title, tables, cells, finished.command))
    return paths
