"""A comparison as one page: its sentences, what changed in each matrix, and every metric."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .._reports import fill, phase_counts, phase_dot
from .._whole_file import written_whole
from ._compared import Compared
from ._described import describe_comparison

CHANGES = "‖s − s'‖ / max(‖s‖, ‖s'‖) of the sorted singular values: the first model's, and its own"
# What is shown of each model beside a matrix: the column of `layers`, its heading and its style.
QUANTITIES = (
    ("lambda_max", "λ max", ".3g"),
    ("stable_rank", "stable rank", ".1f"),
    ("alpha", "alpha", ".2f"),
)
FORM = (
    '<form role="search"><input type="search" placeholder="Filter by name" '
    'aria-label="Filter by name"><select aria-label="Filter by phase"><option value="">all phases'
    '</option>{options}</select><small role="status"></small></form>'
)


class Cell(NamedTuple):
    """What a cell shows, and what its column sorts by."""

    text: str
    value: str = ""
    left: bool = False


def write_page(comparison: Compared, path: str | Path, *, title: str) -> Path:
    """See :meth:`Comparison.to_html`."""
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_text(_page(comparison, title), encoding="utf-8")
    return path


def _page(comparison: Compared, title: str) -> str:
    heading, shared, *_ = describe_comparison(comparison)
    sentences = [*comparison.notes, *comparison.reading]
    listed = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    tables = [_metrics(comparison)]
    if comparison.layers is not None:
        tables.insert(0, _layers(comparison.layers))
    parts = {
        "title": escape(title),
        "subtitle": escape(f"{heading}; {shared.strip()}"),
        "words": f"<h2>In plain words</h2><ul>{listed}</ul>" if listed else "",
        # The script sorts and filters the first table.
        "tables": FORM.format(options=_options(comparison)) + "".join(tables),
    }
    return fill((files(__package__) / "_page.html").read_text(encoding="utf-8"), parts)


def _options(comparison: Compared) -> str:
    if comparison.layers is None:
        return ""
    counts = phase_counts(pd.Series(comparison.layers["phase"].to_numpy().ravel()))
    return "".join(f"<option>{phase}</option>" for phase, _ in counts)


def _layers(layers: pd.DataFrame) -> str:
    """A row for each shared matrix, the most changed first."""
    models = list(map(str, layers["lambda_max"].columns))
    headings = [("matrix", "path of the weights", "text")]
    headings += [(f"change to {model}", CHANGES, "number") for model in models[1:]]
    headings += [
        (f"{text}, {model}", "", "number") for _, text, _ in QUANTITIES for model in models
    ]
    headings += [(f"phase, {model}", "", "text") for model in models]
    change = pd.DataFrame(layers["spectrum_change"]).max(axis=1)
    ordered = layers.loc[change.sort_values(ascending=False, kind="stable").index]
    rows = []
    for (name, index), (_, row) in zip(ordered.index.to_list(), ordered.iterrows(), strict=True):
        label = name.removesuffix("/kernel") + (f"[{index}]" if index else "")
        phases = [phase if isinstance(phase, str) else "" for phase in row["phase"]]
        cells = [_number(row["spectrum_change", model], ".3f") for model in models[1:]]
        for quantity, _, style in QUANTITIES:
            cells += [_number(row[quantity, model], style) for model in models]
        cells += [Cell(phase_dot(p) + p if p else "", p, left=True) for p in phases]
        rows.append(_row(label, cells, phases))
    return _table("Shared matrices", headings, rows)


def _metrics(comparison: Compared) -> str:
    """A row for each metric: its value in each model, and how it goes with their quality."""
    table = comparison.values.T.join(comparison.table)
    headings = [("metric", "", "text"), *((str(name), "", "number") for name in table)]
    rows = [
        _row(str(metric), [_number(value, ".4g") for value in row])
        for metric, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return _table("Metrics", headings, rows)


def _table(title: str, headings: Iterable[tuple[str, str, str]], rows: Iterable[str]) -> str:
    heads = "".join(
        f'<th scope="col" data-kind="{kind}"{" class=left" if kind == "text" else ""}>'
        f'<button type="button" title="{escape(note)}">{escape(text)}</button></th>'
        for text, note, kind in headings
    )
    return (
        f'<h2>{title}</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        + "\n".join(rows)
        + "</table></div>"
    )


def _row(label: str, cells: Sequence[Cell], phases: Sequence[str] = ()) -> str:
    name = escape(label)
    tds = "".join(
        f'<td data-v="{escape(cell.value)}"{" class=left" if cell.left else ""}>{cell.text}</td>'
        for cell in cells
    )
    data = f'data-name="{name}" data-phases="{" ".join(sorted({*phases} - {""}))}"'
    shown = name.replace("/", "/<wbr>")
    return f'<tbody {data}><tr><th scope="row" data-v="{name}">{shown}</th>{tds}</tr></tbody>'


def _number(value: float, style: str) -> Cell:
    return Cell("") if pd.isna(value) else Cell(format(value, style), f"{value:.6g}")
