"""Models of one architecture beside one another, matrix by matrix."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._reports import Report
from ._alignment import Key

COLUMNS = ("lambda_max", "log_frobenius_norm", "stable_rank", "alpha", "alpha_hat", "mp_soft_rank")
KEY = ["name", "index"]


def layer_changes(
    reports: Mapping[str, Report], keys: Mapping[str, Mapping[Key, Key]]
) -> pd.DataFrame | None:
    """Each matrix that all models share, with what each model measured on it.

    Args:
        reports: Names to reports, two or more; the first is what the others are compared with.
        keys: Of the matrices that all share, by those of the first; see :func:`align`.

    Returns:
        Rows by ``name`` and ``index`` of the matrix; columns in two levels, the quantity and the
        model. ``spectrum_change`` is ||s - s'|| / max(||s||, ||s'||) with s the sorted singular
        values of the first model and s' those of another: 0 for equal spectra, 1 where one of them
        is all zero. The weights themselves changed at least as much (Mirsky's inequality), and may
        have changed without it. None if no matrix is shared.
    """
    first, *others = reports
    shared = [*keys[first]]
    if not shared:
        return None
    index = pd.MultiIndex.from_tuples(shared, names=KEY)
    rows = {
        name: report.layers.set_index(KEY).loc[[*keys[name].values()]].set_axis(index)
        for name, report in reports.items()
    }
    columns: dict[tuple[str, str], object] = {
        ("spectrum_change", name): [
            _spectrum_change(reports[first].spectra[key], reports[name].spectra[keys[name][key]])
            for key in shared
        ]
        for name in others
    }
    columns |= {(column, name): rows[name][column] for column in COLUMNS for name in reports}
    columns |= {("phase", name): rows[name]["phase"] for name in reports}
    return pd.DataFrame(columns, index=index)


def _spectrum_change(first: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    # Rounding can leave a squared singular value of zero below it.
    s, t = (np.sqrt(np.clip(np.sort(spectrum), 0, None)) for spectrum in (first, other))
    largest = max(np.linalg.norm(s), np.linalg.norm(t))
    return float(np.linalg.norm(s - t) / largest) if largest != 0 else 0.0
