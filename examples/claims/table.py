"""The page of the claims: its tables, between two marks."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from examples.claims.outcomes import (
    OVERVIEW,
    Outcome,
    by_arm,
    hardest,
    told,
    told_setting,
    with_baselines,
    write_results,
)
from examples.claims.statistics import Comparison, interval, verdict

START, END = "<!-- tables: start -->", "<!-- tables: end -->"


def write(names: Iterable[str], folder: Path, page: Path, results: Path) -> None:
    """Writes the tables into the page, and the runs and figures of each claim into the results.

    Each claim is told at all of its budgets at which an arm and its control are finished, or else
    at the largest at which any arm is.

    Raises:
        ValueError: If the page lacks the marks between which its tables stand.
    """
    names = [*names]
    outcomes = [one for name in names for one in told(name, folder)]
    write_results(outcomes, results)
    page.write_text(replaced(page.read_text(), lines_of(names, outcomes, results)))


def lines_of(names: Iterable[str], outcomes: Sequence[Outcome], results: Path) -> Iterator[str]:
    """The tables of these claims, with the figures in the folder of the results."""
    yield from _overview(outcomes, results)
    yield ""
    absent = [name for name in names if name not in {one.name for one in outcomes}]
    if absent:
        yield f"Not judged yet: {', '.join(absent)}."
        yield ""
    for one in outcomes:
        yield from _section(one, results)
        yield ""


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


def _overview(outcomes: Iterable[Outcome], results: Path) -> Iterator[str]:
    yield "| claim | preset | arm | gain over the baseline | over its strongest control | verdict |"
    yield "|---|---|---|---|---|---|"
    for one, own in with_baselines(outcomes):
        yield _row(
            one.name,
            one.preset,
            own[0].arm,
            _with_error(own[0]),
            _with_error(hardest(own), named=True),
            _verdict(one, own),
        )
    yield ""
    yield f"![Gains of all claims](../{results.as_posix()}/{OVERVIEW})"


def _section(one: Outcome, results: Path) -> Iterator[str]:
    claim, cells = one.claim, [*one.finished.tuned.values(), *one.finished.judged.values()]
    seconds = sum(cell.seconds for cell in cells)
    command = f"python -m examples.claims run --claim {one.name} --preset {one.preset}"
    yield f"### {claim.title}: {one.preset}"
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
        yield f"![Gains of {one.label}](../{results.as_posix()}/{one.label}.png)"
        yield ""
    if claim.equal:
        yield "All settings that were tried, means over the tuning seeds, on the validation split:"
        yield ""
        yield f"![Tried of {one.label}](../{results.as_posix()}/{one.label}-tried.png)"
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
            told_setting(one.finished.chosen[arm]),
            f"{numbers.mean():.4f} ({low:.4f} to {high:.4f})",
            *(f"{np.nanmean(of(measured)):.4g}" for of in also.values()),
        )


def _comparisons(one: Outcome) -> Iterator[str]:
    yield _row("arm", "against", "gain and 95 % interval", "± standard error", "p", "verdict")
    yield "|" + "---|" * 6
    for arm, own in by_arm(one):
        for number, other in enumerate(own):
            yield _row(
                "" if number else arm,
                other.control,
                f"{other.gain:+.4f} ({other.low:+.4f} to {other.high:+.4f})",
                f"{other.standard_error:.4f}",
                "< 0.001" if other.p_value < 0.001 else f"{other.p_value:.3f}",
                "" if number else f"**{_verdict(one, own)}**",
            )


def _verdict(one: Outcome, own: list[Comparison]) -> str:
    return verdict(own, controls=one.claim.arms[own[0].arm].controls)


def _with_error(comparison: Comparison, *, named: bool = False) -> str:
    text = f"{comparison.gain:+.4f} ± {comparison.standard_error:.4f}"
    return f"{text} ({comparison.control})" if named else text


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
