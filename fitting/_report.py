"""What an evaluation found: one row a matrix, what was left out, and the model as a whole."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Columns of Report.layers, in order.
COLUMNS = (
    "name", "index", "kind", "rows", "cols", "Q", "num_eigenvalues",
    "frobenius_norm", "spectral_norm", "lambda_max", "log_frobenius_norm", "log_spectral_norm",
    "stable_rank", "log_stable_rank", "log_stable_rank_ratio", "matrix_entropy", "hard_rank",
    "alpha", "sigma", "xmin", "ks_distance", "num_tail", "p_value", "alpha_hat",
    "best_distribution", "universality_class", "lambda_plus", "num_spikes", "mp_soft_rank",
    "mp_soft_rank_raw", "phase", "phase_reason", "valid", "reason",
)  # fmt: skip
INTEGERS = ("rows", "cols", "num_eigenvalues", "hard_rank", "num_tail", "num_spikes")
TEXTS = (
    "name", "index", "kind", "best_distribution", "universality_class", "phase", "phase_reason",
    "reason",
)  # fmt: skip
MEANS = (
    "alpha", "alpha_hat", "log_frobenius_norm", "log_spectral_norm", "stable_rank",
    "log_stable_rank", "log_stable_rank_ratio", "matrix_entropy", "mp_soft_rank",
)  # fmt: skip
SUMS = ("alpha_hat", "log_frobenius_norm", "log_spectral_norm")
FORMAT = 2

Spectra = dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Report:
    """The spectra of a model, measured.

    Attributes:
        layers: One row a matrix; columns in natural logarithms. Rows that could not be fitted have
            ``valid=False`` and a ``reason``.
        skipped: One row a tensor left out: ``name``, ``shape``, ``reason``.
        spectra: The eigenvalues of each row, by its ``name`` and ``index``.
    """

    layers: pd.DataFrame
    skipped: pd.DataFrame
    spectra: Spectra

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, and means and sums over the valid rows alone.

        ``sum_alpha_hat`` is the first paper's Eq. 3, ``mean_alpha_hat`` what the published tables
        print (there in log10); ``mean_log_spectral_norm`` and ``mean_log_frobenius_norm`` are its
        Eq. 5. NaN where no row is valid.
        """
        valid = self.layers[self.layers["valid"]]
        phases = self.layers["phase"].dropna().value_counts(sort=False)
        return {
            "num_layers": int(self.layers["name"].nunique()),
            "num_matrices": len(self.layers),
            "num_valid": len(valid),
            "num_skipped": len(self.skipped),
            "num_phases": {str(phase): int(count) for phase, count in phases.items()},
            **{f"mean_{name}": float(valid[name].mean()) for name in MEANS},
            **{f"sum_{name}": float(valid[name].sum(min_count=1)) for name in SUMS},
        }

    def save(self, path: str | Path) -> Path:
        """Writes the report as JSON: whole or not at all. See :func:`load_report`."""
        path = Path(path)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(self.to_dict(), indent=1))
        os.replace(partial, path)
        return path

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists and dicts, None where a value is missing.

        Spectra are base64 of little-endian float64, in the order of the layers.
        """
        keys = zip(self.layers["name"], self.layers["index"], strict=True)
        return {
            "format": FORMAT,
            "summary": {name: None if x != x else x for name, x in self.summary.items()},
            "layers": json.loads(self.layers.to_json(orient="records", double_precision=15)),
            "skipped": json.loads(self.skipped.to_json(orient="records")),
            "spectra": [
                base64.b64encode(self.spectra[key].astype("<f8").tobytes()).decode() for key in keys
            ],
        }


def make_report(
    rows: list[dict[str, Any]], skipped: list[dict[str, Any]], spectra: Spectra
) -> Report:
    """A report with the columns in their order and types."""
    types = dict.fromkeys(COLUMNS, "float64")
    types |= dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(TEXTS, "object") | {"valid": "bool"}
    layers = pd.DataFrame(rows).reindex(columns=COLUMNS).astype(types)
    return Report(layers, pd.DataFrame(skipped, columns=["name", "shape", "reason"]), spectra)


def load_report(path: str | Path) -> Report:
    """Reads a report that :meth:`Report.save` wrote.

    Args:
        path: The JSON file.

    Returns:
        The :class:`Report`, equal to the one that was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a report.

    Example:
        >>> import tempfile, numpy as np, fitting
        >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fitting.evaluate(params, progress=False).save(f"{folder}/report.json")
        ...     fitting.load_report(path).summary["num_matrices"]
        1
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"{path} has format {content['format']}; this version reads {FORMAT}")
        rows = content["layers"]
        spectra = {
            (row["name"], row["index"]): np.frombuffer(base64.b64decode(text), "<f8")
            for row, text in zip(rows, content["spectra"], strict=True)
        }
        return make_report(rows, content["skipped"], spectra)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report written by Report.save: {error!r}") from error
