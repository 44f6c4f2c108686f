"""A model as a whole: counts, means and sums, each with the number of matrices behind it."""

import math
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
NORMS = ("log_frobenius_norm", "log_spectral_norm")


def summarize(
    layers: pd.DataFrame,
    skipped: pd.DataFrame,
    spectra: Mapping[tuple[str, str], NDArray[np.float64]],
) -> dict[str, Any]:
    """See :attr:`Report.summary`."""
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


def log_alpha_norm(eigenvalues: NDArray[np.float64], alpha: float) -> float:
    """Logarithm of sum_i l_i^alpha, of a spectrum that is not all zero."""
    top = float(eigenvalues.max())
    # Relative to the largest, so that no power overflows.
    return alpha * math.log(top) + math.log(((eigenvalues / top) ** alpha).sum())
