"""The numbers that tell the phases apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._power_laws import PowerLawFit
from .._power_laws._power_law import fit_tail
from .._random_matrices import MarchenkoPasturFit
from ._cuts import PhaseCuts


def gather_evidence(
    values: NDArray[np.float64], bulk: MarchenkoPasturFit, tail: PowerLawFit, cuts: PhaseCuts
) -> dict[str, float]:
    """Every number that the phases are decided on; ``_cut`` ends those whose cut depends on M."""
    count = values.size
    evidence = {
        "num_eigenvalues": float(count),
        "zero_share": bulk.num_zeros / count,
        "alpha": tail.alpha,
        "power_law_ks_distance": tail.ks_distance,
        "power_law_tail_share": tail.num_tail / count,
        "law_deviation": tail.ks_distance * tail.num_tail**0.5,
    }
    if bulk.bulk is None:
        return evidence
    outliers = values[count - bulk.num_spikes :]
    low, high = bulk.bulk.edges
    gap, rest = 0.0, values[count - bulk.num_spikes - 1]
    if outliers.size:
        gap = (outliers[0] - max(rest, high)) / (high - low)
    # Whatever stands out of the bulk, and at least a fifth: with xmin searched for, nearly every
    # spectrum has some short stretch that a power law fits.
    reach = max(outliers.size, round(count * cuts.unexplained), 2)
    reach = min(reach, count - bulk.num_zeros)
    distance = fit_tail(values, xmin=values[count - reach]).ks_distance
    distance_cut = max(cuts.tail_distance, 1.35 / reach**0.5)
    if distance > distance_cut:
        negligible = int(np.count_nonzero(values < 1e-6 * values[-1]))
        evidence["zero_share"] = max(negligible, bulk.num_zeros) / count
    share = outliers.size / count
    num_above, cliff = _cliff(values, tail.alpha)
    numbers = {
        "num_above_cliff": num_above,
        "cliff": cliff,
        "cliff_share": values[count - num_above :].sum() / values.sum(),
        "num_outliers": float(outliers.size),
        "outlier_share": share,
        "bulk_ks_distance": bulk.ks_distance,
        "unexplained": share + (1 - share) * bulk.ks_distance,
        "edge_ratio": values[-1] / bulk.lambda_plus,
        "edge_ratio_cut": cuts.edge_ratio + 6 * bulk.edge_width / bulk.lambda_plus,
        "gap": gap,
        "detached_cut": cuts.detached + 4 * bulk.edge_width / (high - low),
        "collapse_share": outliers.sum() / values.sum(),
        "tail_distance": distance,
        "tail_distance_cut": distance_cut,
    }
    return evidence | {name: float(number) for name, number in numbers.items()}


def _cliff(values: NDArray[np.float64], alpha: float) -> tuple[int, float]:
    """How many eigenvalues stand above the steepest fall, and how unlikely that is: see `cliff`.

    In a power law k ln(lambda_k / lambda_{k+1}) is exponential with mean 1 / (alpha - 1) (Renyi,
    1953). The larger alpha, the less likely a fall; no more than 1.5 is taken from the fit, which
    is one of the decayed rest.
    """
    most = values.size // 10
    above = np.arange(2, most + 1)
    top = np.maximum(values[::-1][: most + 1], np.finfo(float).tiny)
    if not above.size or np.mean(values < 0.01 * values[-1]) < 0.9:
        return 0, 0.0
    rate = min(alpha, 1.5) - 1 if alpha > 1 else 0.5
    falls = above * np.log(top[1:-1] / top[2:]) * rate
    steepest = int(falls.argmax())
    return int(above[steepest]), float(falls[steepest])
