"""What was measured on a model, as data: one row a matrix, and what was left out."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checkpoints import INDEX
from .._json_values import records
from .._whole_file import written_whole
from ._columns import layers_table
from ._summary import summarize

FORMAT = 4

Row = dict[str, Any]
Spectra = dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Measurements:
    """The data of a report, which the renderers are given; attributes as of :class:`Report`."""

    layers: pd.DataFrame
    skipped: pd.DataFrame
    spectra: Spectra
    conv: str
    num_values: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Measurements):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, means and sums, in natural logarithms but where said; NaN over no rows.

        Which matrices a number is over, and under which name they are counted:

        ========================================  ================================================
        ``num_valid``                             power-law fits: ``mean_alpha``,
                                                  ``mean_alpha_hat``, ``sum_alpha_hat``
        ``num_measured``                          weights finite and not all zero, whether or not a
                                                  power law fits: every mean and sum of norms,
                                                  stable ranks and entropy
        ``num_marchenko_pastur``                  a Marchenko-Pastur edge: ``mean_mp_soft_rank``
        ========================================  ================================================

        Of all values in tensors of two or more axes, ``share_left_out`` were not measured;
        ``largest_left_out`` has the names of the largest such tensors, three at most. Those do not
        count that are measured under another name, copies, an optimizer's, and layers that were not
        asked for.

        ``mean_log_stable_rank_ratio`` is erratic: the ratio has a pole at lambda_max = 1.

        The first paper's: ``sum_alpha_hat`` is its Eq. 3, over layers and, in a convolution, over
        the slices; ``layer_mean_log_spectral_norm`` and ``layer_mean_log_frobenius_norm`` are its
        Eq. 5, the mean over layers of the sum over a layer's slices. The published tables': means
        over all slices, in **log10**: ``published_alpha_hat``, ``published_log_frobenius_norm``,
        ``published_log_lambda_max`` (printed there as the spectral norm) and
        ``published_log_alpha_norm``, of log10 sum l^alpha; those tables left out matrices with
        fewer than 50 rows or columns, which this does not.
        """
        return summarize(self.layers, self.skipped, self.spectra, self.num_values)

    def save(self, path: str | Path) -> Path:
        """Writes the report as JSON: whole or not at all. See :func:`load_report`."""
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1))
        return path

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists and dicts, None where a value is missing.

        Spectra are base64 of little-endian float64, in the order of the layers.
        """
        keys = zip(self.layers["name"], self.layers["index"], strict=True)
        return {
            "format": FORMAT,
            "conv": self.conv,
            "num_values": self.num_values,
            "summary": {name: None if x != x else x for name, x in self.summary.items()},
            "layers": records(self.layers),
            "skipped": records(self.skipped),
            "spectra": [
                base64.b64encode(self.spectra[key].astype("<f8").tobytes()).decode() for key in keys
            ],
        }


def tabulate(
    rows: list[Row], skipped: list[Row], spectra: Spectra, *, conv: str, num_values: int
) -> Measurements:
    """The measurements of these rows, with a column for all that can be measured."""
    left_out = pd.DataFrame(skipped, columns=["name", "shape", "reason"])
    return Measurements(layers_table(rows), left_out, spectra, conv, num_values)


def is_report(path: Path) -> bool:
    """Whether a path is that of a saved report, by its name: not of a checkpoint's index."""
    return path.suffix == ".json" and not path.name.endswith(INDEX)


def load_measurements(path: Path) -> Measurements:
    """Reads what :meth:`Measurements.save` wrote; see :func:`fitting.load_report`."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {content['format']}; expected {FORMAT}; evaluate again"
            )
        rows = content["layers"]
        spectra = {
            (row["name"], row["index"]): np.frombuffer(base64.b64decode(text), "<f8")
            for row, text in zip(rows, content["spectra"], strict=True)
        }
        conv, num_values = content["conv"], content["num_values"]
        return tabulate(rows, content["skipped"], spectra, conv=conv, num_values=num_values)
    except (json.JSONDecodeError, UnicodeDecodeError, binascii.Error, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no report ({error!r}); expected a file that Report.save wrote"
        ) from error
