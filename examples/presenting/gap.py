"""How much of a generalization gap a treatment closes, with its standard error."""

from typing import NamedTuple

import numpy as np


class Closed(NamedTuple):
    """A share of a gap.

    Attributes:
        share: 0 where the treatment does nothing, 1 where it closes the gap.
        error: Standard error of the share; NaN for one seed.
        gap: The gap itself, a difference of accuracies.
        gap_error: Its standard error; NaN for one seed.
    """

    share: float
    error: float
    gap: float
    gap_error: float

    @property
    def is_gap(self) -> bool:
        """Whether there is a gap at all: two standard errors above 0, or above 0 for one seed."""
        return self.gap > (2 * self.gap_error if np.isfinite(self.gap_error) else 0)


def closed(plain: np.ndarray, treated: np.ndarray, reference: np.ndarray) -> Closed:
    r"""Compares accuracies seed by seed.

    .. math:: \frac{\bar a_{treated} - \bar a_{plain}}{\bar a_{reference} - \bar a_{plain}}

    A ratio of means, with the standard error of the jackknife over seeds, which start from the same
    weights in all three arms.

    Args:
        plain: Accuracy of every seed at the large batch.
        treated: The same with the penalty.
        reference: At the batch size that generalizes.

    Raises:
        ValueError: The arms differ in their number of seeds, or have none.
    """
    plain, treated, reference = (np.asarray(each, float) for each in (plain, treated, reference))
    if not plain.size or not plain.shape == treated.shape == reference.shape:
        raise ValueError(
            f"the number of accuracies is {plain.size}, {treated.size} and {reference.size};"
            " expected one for each seed in every arm"
        )
    gains, gaps = treated - plain, reference - plain
    number = plain.size
    share = _ratio(gains.mean(), gaps.mean())
    if number == 1:
        return Closed(share, np.nan, float(gaps.mean()), np.nan)
    left_out = np.array(
        [
            _ratio((gains.sum() - gain) / (number - 1), (gaps.sum() - gap) / (number - 1))
            for gain, gap in zip(gains, gaps, strict=True)
        ]
    )
    error = np.sqrt((number - 1) / number * ((left_out - left_out.mean()) ** 2).sum())
    return Closed(share, float(error), float(gaps.mean()), float(gaps.std(ddof=1) / number**0.5))


def _ratio(gain: float, gap: float) -> float:
    return float(gain / gap) if gap else np.nan
