"""Differences paired by seed: intervals, corrected tests, and the verdict that follows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from examples.claims.claim import Claim

COVERAGE = 0.95
LEVEL = 0.05
MIN_SEEDS = 2
HOLDS = "holds beyond controls"
SO_DOES_THE_CONTROL = "holds, but so does the control"
NOT_SEEN = "not seen"
REFUTED = "refuted at this scale"
OPEN = "better so far; controls are missing"
UNDECIDED = "not decided: the baseline is missing"


class Comparison(NamedTuple):
    """An arm against one of its controls.

    Attributes:
        arm: Its name.
        control: Its name.
        gain: Mean over seeds by which the arm is better.
        low: Lower end of the interval of 95 % of the gain.
        high: Its upper end.
        standard_error: Of the gain.
        p_value: Of the paired t test, two-sided, corrected by Holm for all of the claim.
    """

    arm: str
    control: str
    gain: float
    low: float
    high: float
    standard_error: float
    p_value: float


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % interval of the mean of `[num_seeds]`: the jackknife's, with Student's t.

    The bootstrap's percentiles cover the mean of six normal numbers in 86 % of draws only.

    Raises:
        ValueError: If there are fewer than 2 seeds.
    """
    if len(values) < MIN_SEEDS:
        raise ValueError(f"there are {len(values)} seeds; expected at least 2 for an interval")
    quantile = stats.t.ppf((1 + COVERAGE) / 2, len(values) - 1)
    half = float(quantile * standard_error(values))
    return float(values.mean()) - half, float(values.mean()) + half


def standard_error(values: np.ndarray) -> float:
    """Of the mean of `[num_seeds]`."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number, by Holm's step-down procedure."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * np.array(p_values)[order]), 1)
    return corrected


def compare(claim: Claim, values: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Every arm against each of its controls.

    Args:
        claim: Which arms have which controls.
        values: By arm, of the deciding number, `[num_seeds]`, the same seeds for all. An arm that
            is not there is left out.
    """
    sign = 1 if claim.higher else -1
    pairs = [
        (arm, control)
        for arm, each in claim.arms.items()
        for control in each.controls
        if arm in values and control in values
    ]
    gains = [sign * (values[arm] - values[control]) for arm, control in pairs]
    p_values = holm([_p_value(gain) for gain in gains])
    return [
        Comparison(
            *pair,
            float(gain.mean()),
            *interval(gain),
            standard_error(gain),
            float(p_value),
        )
        for pair, gain, p_value in zip(pairs, gains, p_values, strict=True)
    ]


def _p_value(gain: np.ndarray) -> float:
    if np.ptp(gain) == 0:
        return 1.0 if gain[0] == 0 else 0.0
    return float(stats.ttest_1samp(gain, 0).pvalue)


def verdict(comparisons: Sequence[Comparison], *, controls: Sequence[str]) -> str:
    """Of one arm, from its comparisons with the controls that are finished.

    Args:
        comparisons: Of the arm.
        controls: All that there are to be: before that, nothing holds beyond them. The first is the
            baseline.
    """
    better = {one.control: one.gain > 0 and one.p_value < LEVEL for one in comparisons}
    if controls[0] not in better:
        return UNDECIDED
    if all(better.values()):
        return HOLDS if len(better) == len(controls) else OPEN
    if better[controls[0]]:
        return SO_DOES_THE_CONTROL
    (baseline,) = (one for one in comparisons if one.control == controls[0])
    return REFUTED if baseline.gain < 0 and baseline.p_value < LEVEL else NOT_SEEN
