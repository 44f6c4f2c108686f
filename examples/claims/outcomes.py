"""What came of the claims: their finished cells with verdicts, all runs as CSV, and figures."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.claims import runner
from examples.claims.claim import Claim
from examples.claims.figures import draw_gains, draw_overview, draw_tried
from examples.claims.registry import CLAIMS
from examples.claims.runner import Finished
from examples.claims.statistics import Comparison, compare

# What tells arms apart that the table does so by name.
UNTOLD = ("control", "none")
OVERVIEW = "overview.png"


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

    @property
    def label(self) -> str:
        """Its name and budget's, as its files are called."""
        return f"{self.name}-{self.preset}"


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


def told(name: str, folder: Path) -> list[Outcome]:
    """Of all budgets at which an arm and its control are finished, or the largest with any arm."""
    # From small to large, as a claim lists them.
    at_all = (outcome(name, preset, folder) for preset in CLAIMS[name].presets)
    finished = [one for one in at_all if one.values]
    return [one for one in finished if one.comparisons] or finished[-1:]


def by_arm(one: Outcome) -> Iterator[tuple[str, list[Comparison]]]:
    """The comparisons of every arm that is judged and has a control that is."""
    for arm in one.values:
        own = [other for other in one.comparisons if other.arm == arm]
        if own:
            yield arm, own


def with_baselines(outcomes: Iterable[Outcome]) -> Iterator[tuple[Outcome, list[Comparison]]]:
    """Those arms whose baseline is judged, which stands first."""
    for one in outcomes:
        for arm, own in by_arm(one):
            if own[0].control == one.claim.arms[arm].controls[0]:
                yield one, own


def hardest(own: Iterable[Comparison]) -> Comparison:
    """The one in which an arm gains least."""
    return min(own, key=lambda comparison: comparison.gain)


def write_results(outcomes: Iterable[Outcome], results: Path) -> None:
    """Writes every run and every setting that was tried as CSV, and the figures."""
    outcomes = [*outcomes]
    results.mkdir(parents=True, exist_ok=True)
    for one in outcomes:
        _write_runs(one, results / f"{one.label}.csv")
        if one.comparisons:
            draw_gains(one.claim, one.comparisons, results / f"{one.label}.png")
        if one.claim.equal:
            _draw_tried(one, results / f"{one.label}-tried.png")
    rows = [
        (f"{one.label}: {own[0].arm}", own[0], hardest(own))
        for one, own in with_baselines(outcomes)
    ]
    draw_overview(rows, results / OVERVIEW)
    _write_tried(outcomes, results / "tried.csv")


def _draw_tried(one: Outcome, path: Path) -> None:
    claim, tuned = one.claim, one.finished.tuned
    qualities = {arm: runner.qualities(claim, cell) for arm, cell in tuned.items()}
    scores = {arm: runner.scores(claim, cell) for arm, cell in tuned.items()}
    enough = runner.enough(claim, runner.controls_of(claim, tuned))
    draw_tried(claim, qualities, scores, enough, path)


def told_setting(settings: Iterable[Mapping[str, float]]) -> str:
    """Settings as the page tells them: what is not 0, and of several the numbers that differ."""
    settings = tuple(settings)
    return ", ".join(
        f"{name} {'/'.join(dict.fromkeys(f'{setting[name]:g}' for setting in settings))}"
        for name in settings[0]
        if name not in UNTOLD and any(setting[name] for setting in settings)
    )


def _write_runs(one: Outcome, path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["arm", "setting", "seed", "value", *one.claim.also])
        for arm, cell in one.finished.judged.items():
            columns = [of(cell.measured) for of in (one.claim.value, *one.claim.also.values())]
            for trial, numbers in enumerate(zip(*columns, strict=True)):
                setting, seed = divmod(trial, one.num_seeds)
                text = told_setting([one.finished.chosen[arm][setting]])
                number = one.claim.presets[one.preset].fresh_seeds[seed]
                rows.writerow([arm, text, number, *(f"{value:.6g}" for value in numbers)])


def _write_tried(outcomes: Iterable[Outcome], path: Path) -> None:
    """Every setting that was tried: the score by which one is chosen, higher is better."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["claim", "preset", "arm", "setting", "seed", "score"])
        for one in outcomes:
            preset = one.claim.presets[one.preset]
            for arm, cell in one.finished.tuned.items():
                grid = one.finished.grids[arm]
                for trial, score in enumerate(one.claim.tuning(cell.measured)):
                    setting, seed = divmod(trial, preset.num_tuning)
                    text = told_setting([grid[setting]])
                    number = runner.TUNING_SEED + seed
                    rows.writerow([one.name, one.preset, arm, text, number, f"{score:.6g}"])
