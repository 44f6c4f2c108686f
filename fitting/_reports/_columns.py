"""The columns of a report, which docs/conventions.md explains one by one."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

COLUMNS = (
    "name", "index", "kind", "rows", "cols", "Q", "num_eigenvalues",
    "frobenius_norm", "spectral_norm", "lambda_max", "log_frobenius_norm", "log_spectral_norm",
    "stable_rank", "log_stable_rank", "log_stable_rank_ratio", "matrix_entropy", "hard_rank",
    "alpha", "sigma", "xmin", "ks_distance", "num_tail", "p_value", "alpha_hat",
    "best_distribution", "universality_class", "lambda_plus", "num_spikes", "mp_soft_rank",
    "mp_soft_rank_raw", "phase", "phase_reason", "quantization", "noise_edge",
    "change_share", "change_overlap", "change_overlap_by_chance",
    "num_traps", "trap_p_value", "trace_log_num", "trace_log_sigma", "trace_log_gap",
    "valid", "reason",
)  # fmt: skip
INTEGERS = (
    "rows", "cols", "num_eigenvalues", "hard_rank", "num_tail", "num_spikes", "num_traps",
    "trace_log_num",
)  # fmt: skip
TEXTS = (
    "name", "index", "kind", "best_distribution", "universality_class", "phase", "phase_reason",
    "quantization", "reason",
)  # fmt: skip


def layers_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of measurements with the columns in their order and types; missing values are NaN."""
    types = dict.fromkeys(COLUMNS, "float64")
    types |= dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(TEXTS, "object") | {"valid": "bool"}
    return pd.DataFrame(rows).reindex(columns=COLUMNS).astype(types)
