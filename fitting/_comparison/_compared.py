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
FORMAT = 2


@dataclass(frozen=True, eq=False)
class Compared:
    """The data of a comparison, which its figures are given; as of :class:`Comparison`."""

    values: pd.DataFrame
    quality: pd.Series | None
    table: pd.DataFrame
    layers: pd.DataFrame | None = None
    controls: tuple[str, ...] = ()
    reference: str = REFERENCE
    notes: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Compared):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

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
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Writes :meth:`to_dict` as JSON, whole or not at all, and gives the path back."""
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1))
        return path


def load_compared(path: Path) -> Compared:
    """Reads what :meth:`Compared.save` wrote; see :func:`fitting.load_comparison`."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {content['format']}; expected {FORMAT}, so compare again"
            )
        quality = content["quality"]
        return Compared(
            _table(content["values"]),
            None if quality is None else pd.Series(quality, dtype="float64"),
            _table(content["table"]),
            None if content["layers"] is None else layers_of_records(content["layers"]),
            tuple(content["controls"]),
            content["reference"],
            tuple(content["notes"]),
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no comparison ({error!r}); expected a file that Comparison.save wrote"
        ) from error


def _table(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").astype("float64")


def layers_of_records(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of shared matrices from its rows, as :func:`nested_records` has them."""
    index = pd.MultiIndex.from_tuples([(row["name"], row["index"]) for row in records])
    columns = {
        (quantity, model): [row[quantity][model] for row in records]
        for quantity, models in records[0].items()
        if isinstance(models, dict)
        for model in models
    }
    table = pd.DataFrame(columns, index=index.set_names(["name", "index"]))
    numbers = [column for column in columns if column[0] != "phase"]
    return table.astype(dict.fromkeys(numbers, "float64"))
