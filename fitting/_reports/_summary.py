"""A model as a whole: counts, means and sums, each with the number of matrices behind it."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Columns by the rows that have them. A matrix without a power law still has its norms.
OF_FITS = ("alpha", "alpha_hat")
OF_SPECTRA = (
    "log_frobenius_norm", "log_spectral_norm", "stable_rank", "log_stable_rank",
    "log_stable_rank_ratio", "matrix_entropy",
)  # fmt: skip
SUMS = ("alpha_hat", "log_frobenius_norm", "log_spectral_norm")
# Why a tensor was not measured by itself, where its values were, or are no weights of the model.
COUNTED_ELSEWHERE = (
    "a part of", "the same tensor as", "not in the state dict", "part of an optimizer",
    "a moving average", "not among the layers asked for", "the scale of a normalization",
)  # fmt: skip
MAX_NAMES = 3
NORMS = ("log_frobenius_norm", "log_spectral_norm")


def summarize(
    layers: pd.DataFrame,
    skipped: pd.DataFrame,
    spectra: Mapping[tuple[str, str], NDArray[np.float64]],
    num_values: int,
) -> dict[str, Any]:
    """See :attr:`Report.summary`."""
    left = left_out_values(skipped)
    num_left = sum(size for _, size in left)
    share = num_left / (num_left + num_values) if num_left else 0.0
    fitted = layers[layers["valid"]]
    measured = layers[layers["lambda_max"].notna()]
    with_edge = layers[layers["mp_soft_rank"].notna()]
    phases = layers["phase"].dropna().value_counts(sort=False)
    rows_of = dict.fromkeys(OF_FITS, fitted) | dict.fromkeys(OF_SPECTRA, measured)
    rows_of["mp_soft_rank"] = with_edge
    means = {name: float(rows[name].mean()) for name, rows in rows_of.items()}
    sums = {name: float(rows_of[name][name].sum(min_count=1)) for name in SUMS}
    num_measured_layers = measured["name"].nunique()
    alpha_norms = [
        log_alpha_norm(spectra[name, index], alpha)
        for name, index, alpha in zip(fitted["name"], fitted["index"], fitted["alpha"], strict=True)
    ]
    return {
        "num_layers": int(layers["name"].nunique()),
        "num_matrices": len(layers),
        "num_measured": len(measured),
        "num_valid": len(fitted),
        "num_marchenko_pastur": len(with_edge),
        "num_skipped": len(skipped),
        "share_left_out": share,
        "largest_left_out": [name for name, _ in left[:MAX_NAMES]],
        "num_phases": {str(phase): int(count) for phase, count in phases.items()},
        **{f"mean_{name}": value for name, value in means.items()},
        **{f"sum_{name}": value for name, value in sums.items()},
        **{
            f"layer_mean_{name}": sums[name] / num_measured_layers if len(measured) else math.nan
            for name in NORMS
        },
        "published_alpha_hat": means["alpha_hat"] / math.log(10),
        "published_log_frobenius_norm": means["log_frobenius_norm"] / math.log(10),
        "published_log_lambda_max": 2 * means["log_spectral_norm"] / math.log(10),
        "published_log_alpha_norm": (
            float(np.mean(alpha_norms)) / math.log(10) if alpha_norms else math.nan
        ),
    }


def left_out_values(skipped: pd.DataFrame) -> list[tuple[str, int]]:
    """Names and numbers of values of the matrices that were not measured, the largest first."""
    found = []
    for name, shape, reason in skipped[["name", "shape", "reason"]].itertuples(index=False):
        sides = [int(side) for side in re.findall(r"\d+", shape)]
        size = int(np.prod(sides))
        if len(sides) >= 2 and size and not reason.startswith(COUNTED_ELSEWHERE):
            found.append((name, size))
    return sorted(found, key=lambda item: -item[1])


def log_alpha_norm(eigenvalues: NDArray[np.float64], alpha: float) -> float:
    """Logarithm of sum_i l_i^alpha, of a spectrum that is not all zero."""
    top = float(eigenvalues.max())
    # Relative to the largest, so that no power overflows.
    return alpha * math.log(top) + math.log(((eigenvalues / top) ** alpha).sum())
