"""A report in the columns, units and fits of WeightWatcher 0.7.7."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._power_laws._power_law import fit_tail
from ._measurements import Measurements
from ._summary import log_alpha_norm

# WeightWatcher's own constants, under its own names where it has them.
EVALS_THRESH = 1e-5
EPSILON = 1e-10
WEAK_RANK_LOSS_TOLERANCE = 1e-6
MIN_EVALS = 8
SMALL_N_CUTOFF, SMALL_N_TAIL = 20, 8
OVER_TRAINED_THRESH, UNDER_TRAINED_THRESH = 2.0, 6.0

COLUMNS = (
    "layer_id", "name", "D", "M", "N", "Q", "alpha", "alpha_weighted", "entropy", "has_esd",
    "lambda_max", "layer_type", "log_alpha_norm", "log_norm", "log_spectral_norm", "longname",
    "matrix_rank", "norm", "num_evals", "num_pl_spikes", "rank_loss", "rf", "sigma", "slice_id",
    "spectral_norm", "stable_rank", "status", "sv_max", "sv_min", "warning", "weak_rank_loss",
    "xmax", "xmin",
)  # fmt: skip
INTEGERS = ("matrix_rank", "num_pl_spikes", "rank_loss", "weak_rank_loss")


def weightwatcher_table(report: Measurements, *, pool: bool) -> pd.DataFrame:
    """See :meth:`Report.to_weightwatcher`."""
    rows = []
    for layer_id, (name, layer) in enumerate(report.layers.groupby("name", sort=False)):
        kind = layer["kind"].iloc[0]
        is_conv = kind.startswith("conv")
        if is_conv and report.conv not in ("slices", "pooled"):
            raise ValueError(
                f"conv is {report.conv!r} for {name}; expected 'slices' or 'pooled', as "
                "WeightWatcher has no table of anything else; evaluate again"
            )
        # Units of W^T W to WeightWatcher's, which scales the matrices of a convolution: pooled by
        # sqrt(1/2), slices by sqrt(rf/2).
        spectra = [report.spectra[str(name), index] for index in layer["index"]]
        M, N = sorted(int(size) for size in layer[["rows", "cols"]].iloc[0])
        rf = sum(s.size for s in spectra) // M if is_conv else 1
        if is_conv and not pool and len(spectra) < rf:
            raise ValueError(
                f"pool is False and conv is {report.conv!r} for {name}; expected a report with "
                "conv='slices'"
            )
        longname = str(name).removesuffix("/kernel").removesuffix("/embedding").replace("/", ".")
        place = {
            "layer_id": layer_id,
            "name": longname,
            "longname": longname,
            "layer_type": "conv2d" if is_conv else kind if kind == "embedding" else "dense",
            "M": M,
            "N": N,
            "rf": rf,
        }
        scale = 0.5 * (1 if pool else rf) if is_conv else 1.0
        matrices = [scale * spectrum for spectrum in spectra]
        groups = [matrices] if is_conv and pool else [[matrix] for matrix in matrices]
        for slice_id, group in enumerate(groups):
            rows.append(place | {"slice_id": slice_id} | _measure(group, N, M))
    table = pd.DataFrame(rows, columns=[*COLUMNS]).astype(dict.fromkeys(INTEGERS, "Int64"))
    return table.drop(columns="slice_id") if pool else table


def _measure(matrices: list[NDArray[np.float64]], N: int, M: int) -> dict[str, Any]:
    """The columns of one row: of one matrix, or of the slices of a convolution as one spectrum."""
    evals = np.sort(np.concatenate(matrices))
    row: dict[str, Any] = {"Q": N / M, "has_esd": True, "num_evals": evals.size}
    row |= {"status": "failed", "warning": ""}
    if not np.isfinite(evals).all():
        return row
    singular_values = np.sqrt(evals)
    row |= {
        "lambda_max": evals[-1],
        "spectral_norm": evals[-1],
        "norm": evals.sum(),
        "sv_max": singular_values[-1],
        "matrix_rank": _rank(evals, N),
        "weak_rank_loss": int(np.count_nonzero(evals < WEAK_RANK_LOSS_TOLERANCE)),
    }
    # Of the slices, WeightWatcher prints the largest of the smallest singular values.
    if all(matrix.size <= M for matrix in matrices):
        row["sv_min"] = math.sqrt(max(matrix.min() for matrix in matrices))
        row["rank_loss"] = sum(matrix.size - _rank(matrix, N) for matrix in matrices)
    if not evals[-1] > 0:
        return row
    shares = evals / evals.sum() + EPSILON
    row |= {
        "log_norm": math.log10(row["norm"]),
        "log_spectral_norm": math.log10(evals[-1]),
        "stable_rank": evals.sum() / evals[-1],
        "entropy": -(shares * np.log(shares)).sum() / math.log(row["matrix_rank"] + EPSILON),
    }
    fit = _fit(evals[evals > EVALS_THRESH])
    if evals.size < MIN_EVALS or fit is None:
        return row
    alpha, xmin, distance, sigma = fit
    row |= {
        "status": "success",
        "alpha": alpha,
        "xmin": xmin,
        "xmax": evals[-1],
        "D": distance,
        "sigma": sigma,
        "num_pl_spikes": int(np.count_nonzero(evals >= xmin)),
        "alpha_weighted": alpha * row["log_spectral_norm"],
        "log_alpha_norm": log_alpha_norm(evals, alpha) / math.log(10),
    }
    if alpha < OVER_TRAINED_THRESH:
        row["warning"] = "over-trained"
    elif alpha > UNDER_TRAINED_THRESH:
        row["warning"] = "under-trained"
    return row


def _rank(evals: NDArray[np.float64], N: int) -> int:
    singular_values = np.sqrt(evals)
    tolerance = singular_values.max() * N * np.finfo(np.float64).eps
    return int(np.count_nonzero(singular_values > tolerance))


def _fit(evals: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """alpha, xmin, D and sigma as WeightWatcher fits them, None where it cannot.

    From 20 eigenvalues on this is the maximum-likelihood fit that :func:`fit_power_law` also does.
    Below, alpha is 1 + (k - 1) / sum ln(l / xmin), for its bias, and a tail has 8 or more.
    """
    if evals.size < 2 or evals[0] == evals[-1]:
        return None
    if evals.size >= SMALL_N_CUTOFF:
        fit = fit_tail(evals)
        if not math.isfinite(fit.sigma):
            return None
        return fit.alpha, fit.xmin, fit.ks_distance, fit.sigma_classical
    fits = []
    for start in range(max(evals.size - SMALL_N_TAIL, 0) + 1):
        logs = np.log(evals[start:] / evals[start])
        if logs[-1] > 0:
            k = logs.size
            slope = (k - 1) / logs.sum()
            distance = np.abs(-np.expm1(-slope * logs) - np.arange(k) / k).max()
            fits.append((1 + slope, evals[start], distance, slope / math.sqrt(k)))
    return min(fits, key=lambda fit: fit[2])
