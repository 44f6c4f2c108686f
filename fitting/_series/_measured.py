"""What was measured on the checkpoints of a run, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._json_values import records
from .._reports import layers_table
from .._whole_file import written_whole
from ._trends import QUANTITIES, SHARES, trends

FORMAT = 1
ROW = ("step", "name", "index")


@dataclass(frozen=True, eq=False)
class MeasuredSeries:
    """The data of a series, which the renderers are given; attributes as of :class:`Series`."""

    layers: pd.DataFrame
    tails: pd.DataFrame
    skipped: pd.DataFrame
    conv: str

    @property
    def steps(self) -> list[int]:
        """The steps, increasing."""
        return sorted(int(step) for step in self.layers["step"].unique())

    def matrices(self) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
        """Name and index of each matrix, and its rows by step."""
        for key, table in self.layers.groupby(["name", "index"], sort=False):
            name, index = map(str, key)
            yield (name, index), table

    def trends(self, quantities: Sequence[str] = QUANTITIES) -> pd.DataFrame:
        """What changes over the run, and how sure that is.

        Args:
            quantities: Numeric columns of ``layers``.

        Returns:
            A row for each matrix and quantity: the ``first`` and ``last`` value, the ``change``
            along a straight line over the checkpoints in their order, its standard ``error`` from
            the scatter between neighbours, ``p_value``, and ``q_value``, which is corrected for
            the number of matrices (Benjamini and Hochberg): of the rows with q <= 0.05 one in
            twenty is a false alarm. NaN below 4 checkpoints. For ``alpha`` all checkpoints have a
            tail of one size, ``tail_share`` of the eigenvalues, the third quartile of the tails of
            the fits: the search for xmin would add its jumps.

        Raises:
            ValueError: If a quantity is no numeric column.
        """
        numeric = self.layers.select_dtypes("number").columns.drop("step")
        for quantity in quantities:
            if quantity not in numeric:
                raise ValueError(f"quantities has {quantity!r}; expected of {', '.join(numeric)}")
        return trends(self.layers, self.tails, quantities)

    def save(self, path: str | Path) -> Path:
        """Writes the series as JSON: whole or not at all. See :func:`load_series`."""
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict()))
        return path

    def to_dict(self) -> dict[str, Any]:
        """The series as plain lists and dicts, None where a value is missing."""
        return {
            "format": FORMAT,
            "conv": self.conv,
            "layers": records(self.layers),
            "tails": records(self.tails),
            "skipped": records(self.skipped),
        }


def tabulate(
    rows: Sequence[dict[str, Any]],
    tails: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, Any]],
    *,
    conv: str,
) -> MeasuredSeries:
    """The measurements of these rows, which have a step beside the columns of a report."""
    layers = layers_table(rows)
    layers.insert(0, "step", np.array([row["step"] for row in rows], np.int64))
    alphas = pd.DataFrame(tails, columns=[*ROW, *map(str, SHARES)])
    alphas.columns = pd.Index([*ROW, *SHARES])
    left_out = pd.DataFrame(skipped, columns=["step", "name", "shape", "reason"])
    return MeasuredSeries(layers, alphas, left_out, conv)


def load_measured(path: Path) -> MeasuredSeries:
    """Reads what :meth:`MeasuredSeries.save` wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"{path} has format {content['format']}; expected {FORMAT}")
        return tabulate(
            content["layers"], content["tails"], content["skipped"], conv=content["conv"]
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); expected what Series.save wrote"
        ) from error
