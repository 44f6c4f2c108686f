"""Every metric of a set of models against their quality."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ._quality_statistics import (
    MIN_MODELS,
    equally_good_p_value,
    partial_statistics,
    quality_statistics,
)

# The theory has these fall as the quality rises. It claims no direction across models for the
# others: mean alpha, the ranks and their logs rise with accuracy in the published VGG series.
FALL_WITH_QUALITY = ("alpha_hat", "log_frobenius_norm", "log_spectral_norm", "log_alpha_norm")
KINDS_OF_AVERAGE = re.compile("^(layer_mean|mean|sum|published)_")


def check_quality(quality: Mapping[str, float], models: Sequence[str]) -> pd.Series:
    """The quality of each model, in their order.

    Raises:
        ValueError: If one is missing or not finite, or there are too few.
    """
    missing = [name for name in models if name not in quality]
    if missing:
        raise ValueError(
            f"quality has no number for {missing}; expected one for each model, and has "
            f"{list(quality)}"
        )
    if len(models) < MIN_MODELS:
        raise ValueError(
            f"quality is given for {len(models)} models, too few to show how a metric goes with "
            f"it; expected at least {MIN_MODELS} models, or no quality"
        )
    chosen = pd.Series({name: float(quality[name]) for name in models}, name="quality")
    if not np.isfinite(chosen).all():
        bad = chosen[~np.isfinite(chosen)].to_dict()
        raise ValueError(f"quality has {bad}; expected finite numbers")
    return chosen


def quality_table(
    values: pd.DataFrame, quality: pd.Series, controls: Sequence[str], reference: str
) -> pd.DataFrame:
    """One row a column of ``values``; see :attr:`Comparison.table`."""
    rows = {
        str(name): _row(values, str(name), quality, controls, reference) for name in values.columns
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(
    values: pd.DataFrame, name: str, quality: pd.Series, controls: Sequence[str], reference: str
) -> dict[str, Any]:
    x, y = values[name].to_numpy(), quality.to_numpy()
    row = quality_statistics(x, y)
    row["expected_sign"] = -1 if KINDS_OF_AVERAGE.sub("", name) in FALL_WITH_QUALITY else 0
    for control in controls:
        partial = partial_statistics(x, y, values[control].to_numpy())
        names = (f"tau_given_{control}", f"r_given_{control}", f"p_given_{control}")
        row |= dict(zip(names, partial, strict=True))
    if reference in values:
        row["p_equal_to_reference"] = equally_good_p_value(x, values[reference].to_numpy(), y)
    return row
