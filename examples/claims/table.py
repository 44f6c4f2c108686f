"""The page of the claims: its tables between two marks, all runs as CSV, and figures."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.claims import runner
from examples.claims.claim import Claim
from examples.claims.figures import draw_gains
from examples.claims.registry import CLAIMS
from examples.claims.runner import Finished
from examples.claims.statistics import Comparison, compare, interval, verdict

START, END = "<!-- tables: start -->", "<!-- tables: end -->"
# What tells arms apart that the table does so by name.
UNTOLD = ("control", "none")


class Outcome(NamedTuple):
    """What came of a claim.

    Attributes:
        name: Its own.
        claim: What it is.
        finished: Its cells.
        num_seeds: On which its arms were judged.
        preset: Its budget's name.
        values: By arm, the deciding number `[num_seeds]`.
        comparisons: Of every arm with each of its controls.
    """

    name: str
    claim: Claim
    finished: Finished
    num_seeds: int
    preset: str
    values: Mapping[str, np.ndarray]
    comparisons: list[Comparison]


def outcome(name: str, preset_name: str, folder: Path) -> Outcome:
    """What the finished cells of a claim say."""
    claim, finished = CLAIMS[name], runner.find(name, preset_name, folder)
    num_seeds = claim.presets[preset_name].num_seeds
    values = {
        arm: claim.value(cell.measured).reshape(-1, num_seeds).mean(0)
        for arm, cell in finished.judged.items()
    }
    comparisons = compare(claim, values)
    return Outcome(name, claim, finished, num_seeds, preset_name, values, comparisons)


def write(names: Iterable[str], folder: Path, page: Path, results: Path) -> None:
    """Writes the tables into the page, and the runs and figures of each claim into the results.

    Each claim is told at the largest of its budgets at which an arm and its control are finished,
    or else at which any arm is.

    Raises:
        ValueError: If the page lacks the marks between which its tables stand.
    """
    names = [*names]
    told = (_largest(name, folder) for name in names)
    outcomes = [one for one in told if one is not None]
    results.mkdir(parents=True, exist_ok=True)
    for one in outcomes:
        _write_runs(one, results / f"{one.name}.csv")
        if one.comparisons:
            draw_gains(one.claim, one.comparisons, results / f"{one.name}.png")
    _write_tried(outcomes, results / "tried.csv")
    lines = [*_overview(outcomes), ""]
    absent = [name for name in names if name not in {one.name for one in outcomes}]
    if absent:
        lines += [f"Not judged yet: {', '.join(absent)}.", ""]
    for one in outcomes:
        lines += [*_section(one, results), ""]
    page.write_text(replaced(page.read_text(), lines))


def _largest(name: str, folder: Path) -> Outcome | None:
    # From small to large, as a claim lists them.
    at_all = (outcome(name, preset, folder) for preset in reversed([*CLAIMS[name].presets]))
    finished = [one for one in at_all if one.values]
    return max(finished, key=lambda one: bool(one.comparisons), default=None)


def replaced(text: str, lines: Iterable[str]) -> str:
    """The text with these lines between its marks.

    Raises:
        ValueError: If it lacks one of them.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the page lacks {START} or {END}; expected both, in this order")
    return "\n".join([before + start, "", *lines, end + after])


def _overview(outcomes: Iterable[Outcome]) -> Iterator[str]:
    yield "| claim | arm | gain over the baseline | over its strongest control | verdict |"
    yield "|---|---|---|---|---|"
    for one in outcomes:
        for arm, own in _by_arm(one):
            hardest = min(own, key=lambda comparison: comparison.gain)
            yield _row(
                one.name,
                arm,
                _with_error(own[0]),
                _with_error(hardest, named=True),
                _verdict(one, own),
            )


def _section(one: Outcome, results: Path) -> Iterator[str]:
    claim, cells = one.claim, [*one.finished.tuned.values(), *one.finished.judged.values()]
    seconds = sum(cell.seconds for cell in cells)
    command = f"python -m examples.claims run --claim {one.name} --preset {one.preset}"
    yield f"### {claim.title}"
    yield ""
    yield f"{claim.source}. Published: {claim.published}."
    yield ""
    yield f"Decided by {claim.statistic}. {one.num_seeds} fresh seeds, {len(cells)} programs,"
    yield f"{seconds:.0f} s on {cells[0].device}: `{command}`."
    yield ""
    yield from _arms(one)
    yield ""
    if one.comparisons:
        yield from _comparisons(one)
        yield ""
        yield f"![Gains of {one.name}](../{results.as_posix()}/{one.name}.png)"
        yield ""
    if one.finished.missing:
        yield f"Not finished: {', '.join(one.finished.missing)}."
        yield ""
    if claim.notes:
        tuned, judged = (
            {arm: cell.measured for arm, cell in each.items()}
            for each in (one.finished.tuned, one.finished.judged)
        )
        yield from claim.notes(tuned, judged, claim.presets[one.preset].budget.chunk)


def _arms(one: Outcome) -> Iterator[str]:
    also = one.claim.also
    yield _row("arm", "what it is", "setting", "mean and 95 % interval", *also)
    yield "|" + "---|" * (4 + len(also))
    for arm, numbers in one.values.items():
        low, high = interval(numbers)
        measured = one.finished.judged[arm].measured
        yield _row(
            arm,
            one.claim.arms[arm].text,
            _setting(one.finished.chosen[arm]),
            f"{numbers.mean():.4f} ({low:.4f} to {high:.4f})",
            *(f"{np.nanmean(of(measured)):.4g}" for of in also.values()),
        )


def _comparisons(one: Outcome) -> Iterator[str]:
    yield _row("arm", "against", "gain and 95 % interval", "± standard error", "p", "verdict")
    yield "|" + "---|" * 6
    for arm, own in _by_arm(one):
        for number, other in enumerate(own):
            yield _row(
                "" if number else arm,
                other.control,
                f"{other.gain:+.4f} ({other.low:+.4f} to {other.high:+.4f})",
                f"{other.standard_error:.4f}",
                f"{other.p_value:.3f}",
                "" if number else f"**{_verdict(one, own)}**",
            )


def _by_arm(one: Outcome) -> Iterator[tuple[str, list[Comparison]]]:
    for arm in one.values:
        own = [other for other in one.comparisons if other.arm == arm]
        if own:
            yield arm, own


def _verdict(one: Outcome, own: list[Comparison]) -> str:
    return verdict(own, num_controls=len(one.claim.arms[own[0].arm].controls))


def _with_error(comparison: Comparison, *, named: bool = False) -> str:
    text = f"{comparison.gain:+.4f} ± {comparison.standard_error:.4f}"
    return f"{text} ({comparison.control})" if named else text


def _setting(settings: Iterable[Mapping[str, float]]) -> str:
    settings = tuple(settings)
    return ", ".join(
        f"{name} {'/'.join(dict.fromkeys(f'{setting[name]:g}' for setting in settings))}"
        for name in settings[0]
        if name not in UNTOLD
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _write_runs(one: Outcome, path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["arm", "setting", "seed", "value", *one.claim.also])
        for arm, cell in one.finished.judged.items():
            columns = [of(cell.measured) for of in (one.claim.value, *one.claim.also.values())]
            for trial, numbers in enumerate(zip(*columns, strict=True)):
                setting, seed = divmod(trial, one.num_seeds)
                told = _setting([one.finished.chosen[arm][setting]])
                rows.writerow([arm, told, seed, *(f"{number:.6g}" for number in numbers)])


def _write_tried(outcomes: Iterable[Outcome], path: Path) -> None:
    """Every setting that was tried: the score by which one is chosen, higher is better."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["claim", "preset", "arm", "setting", "seed", "score"])
        for one in outcomes:
            preset = one.claim.presets[one.preset]
            for arm, cell in one.finished.tuned.items():
                grid = one.claim.arms[arm].grid
                for trial, score in enumerate(one.claim.tuning(cell.measured)):
                    setting, seed = divmod(trial, preset.num_tuning)
                    told = _setting([grid[setting]])
                    number = runner.TUNING_SEED + seed
                    rows.writerow([one.name, one.preset, arm, told, number, f"{score:.6g}"])
