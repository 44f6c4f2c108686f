"""Everything that is measured on one spectrum."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from .._phase import Phase, PhaseResult, classify_phase, classify_pooled
from .._power_laws import (
    PowerLawFit,
    compare_distributions,
    goodness_of_fit,
    trace_log,
    universality_class,
)
from .._power_laws._power_law import fit_tail
from .._random_matrices import count_zeros

# Columns that are measured when they are asked for.
EXTRAS = ("traps", "trace_log")


def measure_spectrum(
    eigenvalues: NDArray[np.float64],
    shape: tuple[int, int],
    *,
    num_bootstrap: int = 0,
    squared_norms: NDArray[np.float64] | None = None,
    noise_edge: float = 0.0,
    extras: Sequence[str] = (),
) -> dict[str, Any]:
    """One row of a report: norms, ranks, the fits and the phase of a spectrum.

    Args:
        eigenvalues: Squared singular values ``[M]``, or those of several matrices pooled.
        shape: Rows and columns of the matrix, or of each of the pooled ones.
        num_bootstrap: Bootstraps for the p-value of the power law; 0 leaves it out.
        squared_norms: Sum of the squared entries of each of the pooled matrices.
        noise_edge: Where the eigenvalues of errors of quantization end; no tail begins below it.
        extras: Of :data:`EXTRAS`, what to measure beside.

    Returns:
        Column names to values, natural logarithms throughout. ``valid`` says whether the power-law
        fit may be used, and ``reason`` why not.
    """
    rows, cols = shape
    row: dict[str, Any] = {"rows": rows, "cols": cols, "Q": max(shape) / min(shape)}
    row["num_eigenvalues"] = eigenvalues.size
    if not np.isfinite(eigenvalues).all():
        reason = "the weights have entries that are NaN, infinite or too large to square"
        return row | {"valid": False, "reason": reason}
    if not eigenvalues.any():
        return row | {"valid": False, "reason": "all weights are zero, or too small to square"}
    result = _classify(eigenvalues, shape, squared_norms)
    fit: PowerLawFit | str
    if noise_edge > 0:
        row["noise_edge"] = noise_edge
        fit = _fit_above(eigenvalues, noise_edge)
    else:
        fit = fit_tail(eigenvalues) if isinstance(result, str) else result.power_law
    if "trace_log" in extras:
        known = None if isinstance(fit, str) or not fit.valid else fit
        found = trace_log(eigenvalues, known)
        row |= {
            "trace_log_num": found.num_tail,
            "trace_log_sigma": found.sigma,
            "trace_log_gap": found.gap,
        }
    return (
        row
        | _norms_and_ranks(eigenvalues, shape)
        | _power_law_row(eigenvalues, fit, num_bootstrap)
        | _phase_row(result)
    )


def _fit_above(eigenvalues: NDArray[np.float64], noise_edge: float) -> PowerLawFit | str:
    """The fit of a tail that noise has not made, or why there is none."""
    if eigenvalues.max() < noise_edge:
        return f"no eigenvalue above {noise_edge:.3g}, where the noise of quantization ends"
    fit = fit_tail(eigenvalues, xmin=(noise_edge, None))
    if not fit.valid:
        return f"{fit.reason}, above {noise_edge:.3g}, where the noise of quantization ends"
    return fit


def _classify(
    eigenvalues: NDArray[np.float64],
    shape: tuple[int, int],
    squared_norms: NDArray[np.float64] | None,
) -> PhaseResult | str:
    """The phase, or why there is none."""
    if eigenvalues.size == min(shape):
        return classify_phase(eigenvalues, shape)
    if eigenvalues.size < min(shape):
        return f"of rank {eigenvalues.size} by construction"
    if squared_norms is not None and squared_norms.size * min(shape) == eigenvalues.size:
        return classify_pooled(eigenvalues, shape, squared_norms)
    return "a convolution as a map of whole inputs has no Marchenko-Pastur law"


def _norms_and_ranks(eigenvalues: NDArray[np.float64], shape: tuple[int, int]) -> dict[str, Any]:
    top = float(eigenvalues.max())
    # Relative to the largest, so that no sum can overflow.
    ratios = eigenvalues / top
    stable_rank = float(ratios.sum())
    log_top, log_total = math.log(top), math.log(top) + math.log(stable_rank)
    # The papers' tolerance, epsilon / (2 sqrt(N + M + 1)), lies below the rounding of weights that
    # were trained in single precision: it counts their zeros as ranks.
    hard_rank = ratios.size - count_zeros(np.sort(ratios), max(shape))
    entropy = entr(ratios / stable_rank).sum() / math.log(hard_rank) if hard_rank > 1 else 0.0
    return {
        "frobenius_norm": math.sqrt(top) * math.sqrt(stable_rank),
        "spectral_norm": math.sqrt(top),
        "lambda_max": top,
        "log_frobenius_norm": log_total / 2,
        "log_spectral_norm": log_top / 2,
        "stable_rank": stable_rank,
        "log_stable_rank": math.log(stable_rank),
        "log_stable_rank_ratio": log_total / log_top if log_top else math.nan,
        "matrix_entropy": entropy,
        "hard_rank": hard_rank,
    }


def _power_law_row(
    eigenvalues: NDArray[np.float64], fit: PowerLawFit | str, num_bootstrap: int
) -> dict[str, Any]:
    if isinstance(fit, str):
        return {"valid": False, "reason": fit}
    if not fit.valid:
        return {"valid": False, "reason": fit.reason}
    row = {
        "valid": True,
        "reason": "",
        "alpha": fit.alpha,
        "sigma": fit.sigma,
        "xmin": fit.xmin,
        "ks_distance": fit.ks_distance,
        "num_tail": fit.num_tail,
        "alpha_hat": fit.alpha * math.log(eigenvalues.max()),
        "universality_class": universality_class(fit.alpha).name,
        "best_distribution": compare_distributions(eigenvalues, fit).best,
    }
    if num_bootstrap:
        row["p_value"] = goodness_of_fit(eigenvalues, fit, num_bootstrap=num_bootstrap)
    return row


def _phase_row(result: PhaseResult | str) -> dict[str, Any]:
    if isinstance(result, str):
        return {"phase": Phase.UNCLASSIFIED.name, "phase_reason": result}
    row: dict[str, Any] = {"phase": result.phase.name, "phase_reason": "; ".join(result.reasons)}
    if result.marchenko_pastur.valid:
        row |= {
            "lambda_plus": result.marchenko_pastur.lambda_plus,
            "num_spikes": result.marchenko_pastur.num_spikes,
            "mp_soft_rank": result.mp_soft_rank,
            "mp_soft_rank_raw": result.mp_soft_rank_raw,
        }
    return row
