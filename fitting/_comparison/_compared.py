"""What was found of models beside one another, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .._json_values import nested, nested_records
from .._whole_file import written_whole
from ._sentences import read_comparison

# The metric of the first paper, which every other one is held against.
REFERENCE = "mean_alpha_hat"
FORMAT = 1


@dataclass(frozen=True)
class Compared:
    """The data of a comparison, which its figures are given; as of :class:`Comparison`."""

    values: pd.DataFrame
    quality: pd.Series | None
    table: pd.DataFrame
    layers: pd.DataFrame | None = None
    controls: tuple[str, ...] = ()
    reference: str = REFERENCE

    @property
    def reading(self) -> list[str]:
        """What the statistics say, in sentences; empty without a quality."""
        if self.quality is None:
            return []
        return read_comparison(self.table, self.controls, self.reference)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain lists and dicts, None where a value is missing."""
        return {
            "format": FORMAT,
            "values": nested(self.values),
            "quality": None if self.quality is None else self.quality.to_dict(),
            "table": nested(self.table),
            "layers": None if self.layers is None else nested_records(self.layers),
            "controls": list(self.controls),
            "reference": self.reference,
            "reading": self.reading,
        }

    def save(self, path: str | Path) -> Path:
        """Writes :meth:`to_dict` as JSON, whole or not at all, and gives the path back."""
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1))
        return path
