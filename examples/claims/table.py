"""The page of the claims: its tables between two marks, a table of all runs, and figures."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from examples.claims.claim import Claim
from examples.claims.registry import CLAIMS
from examples.claims.runner import Finished
from examples.claims.statistics import Comparison, compare, interval, verdict

PAGE = Path("docs/claims.md")
RESULTS = Path("examples/results/claims")
START, END = "<!-- tables: start -->", "<!-- tables: end -->"


def values_of(claim: Claim, finished: Finished, num_seeds: int) -> dict[str, np.ndarray]:
    """The deciding number of each arm `[num_seeds]`, the mean over settings judged together."""
    return {
        arm: claim.value(cell.measured).reshape(-1, num_seeds).mean(0)
        for arm, cell in finished.judged.items()
    }


def summary(name: str, finished: Finished, num_seeds: int, preset: str) -> Iterator[str]:
    """The section of a claim, line by line."""
    claim = CLAIMS[name]
    values = values_of(claim, finished, num_seeds)
    comparisons = compare(claim, values)
    seconds = sum(cell.seconds for cell in [*finished.tuned.values(), *finished.judged.values()])
    device = next(iter(finished.judged.values())).device
    yield f"### {claim.title}"
    yield ""
    yield f"Source: {claim.source}. Published: {claim.published}."
    yield ""
    yield f"Decided by: {claim.statistic}. {num_seeds} fresh seeds; {seconds:.0f} s on {device}:"
    yield f"`python -m examples.claims run --claim {name} --preset {preset}`."
    yield ""
    yield from _arms(claim, finished, values, num_seeds)
    yield ""
    yield from _comparisons(claim, comparisons)
    yield ""
    yield f"![Gains of {name}](../{RESULTS}/{name}.png)"
    yield ""


def _arms(
    claim: Claim, finished: Finished, values: Mapping[str, np.ndarray], num_seeds: int
) -> Iterator[str]:
    yield f"| arm | what it is | chosen | mean, 95 % interval | {' | '.join(claim.also)} |"
    yield "|---" * (4 + max(1, len(claim.also))) + "|"
    for arm, numbers in values.items():
        low, high = interval(numbers)
        also = [
            f"{np.nanmean(of(finished.judged[arm].measured)):.4g}" for of in claim.also.values()
        ]
        cells = [
            arm,
            claim.arms[arm].text,
            _setting(finished.chosen[arm]),
            f"{numbers.mean():.4f} ({low:.4f} to {high:.4f})",
            *(also or [""]),
        ]
        yield f"| {' | '.join(cells)} |"


def _setting(settings: Iterable[Mapping[str, float]]) -> str:
    settings = tuple(settings)
    names = [name for name in settings[0] if name not in ("control", "none")]
    return ", ".join(
        f"{name} {'/'.join(dict.fromkeys(f'{setting[name]:g}' for setting in settings))}"
        for name in names
    )


def _comparisons(claim: Claim, comparisons: list[Comparison]) -> Iterator[str]:
    yield "| arm | against | gain, 95 % interval | in standard errors | p, corrected | verdict |"
    yield "|---|---|---|---|---|---|"
    for arm in claim.arms:
        own = [one for one in comparisons if one.arm == arm]
        for number, one in enumerate(own):
            errors = one.gain / one.standard_error if one.standard_error else float("nan")
            yield (
                f"| {arm if not number else ''} | {one.control} | {one.gain:+.4f} ({one.low:+.4f} "
                f"to {one.high:+.4f}) | {errors:+.1f} | {one.p_value:.3f} | "
                f"{'**' + verdict(own) + '**' if not number else ''} |"
            )


def overview(names: Iterable[str], found: Mapping[str, Finished], num_seeds: Mapping) -> list[str]:
    """One line for each arm that a claim is about."""
    lines = [
        "| claim | arm | gain over the baseline | over the strongest control | verdict |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        claim = CLAIMS[name]
        comparisons = compare(claim, values_of(claim, found[name], num_seeds[name]))
        for arm, each in claim.arms.items():
            own = [one for one in comparisons if one.arm == arm]
            if not own:
                continue
            hardest = min(own, key=lambda one: one.gain)
            lines.append(
                f"| {name} | {each.text} | {own[0].gain:+.4f} ± {own[0].standard_error:.4f} "
                f"| {hardest.gain:+.4f} ± {hardest.standard_error:.4f} ({hardest.control}) "
                f"| {verdict(own)} |"
            )
    return lines


def write_runs(name: str, finished: Finished, num_seeds: int) -> Path:
    """The deciding number of every run on a fresh seed, as CSV."""
    claim = CLAIMS[name]
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["arm", "setting", "seed", "value", *claim.also])
        for arm, cell in finished.judged.items():
            columns = [
                claim.value(cell.measured),
                *(of(cell.measured) for of in claim.also.values()),
            ]
            for trial, numbers in enumerate(zip(*columns, strict=True)):
                setting = finished.chosen[arm][trial // num_seeds]
                rows.writerow(
                    [arm, _setting([setting]), trial % num_seeds, *(f"{n:.6g}" for n in numbers)]
                )
    return path


def replaced(page: str, lines: Iterable[str]) -> str:
    """The page with these lines between its marks.

    Raises:
        ValueError: If it has no marks.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the page lacks {START} or {END}; expected both")
    return "\n".join([before + start, "", *lines, end + after])
