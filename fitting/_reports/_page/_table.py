"""The table of a page: a line for each layer, and hidden below it one for each matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from .._measurements import Measurements, Row
from .._remarks import fold
from . import _svg


class Column(NamedTuple):
    """A heading, what it is, where its value comes from, the format of a number or "" of a text."""

    heading: str
    title: str
    key: str
    style: str


COLUMNS = (
    Column("D", "Kolmogorov-Smirnov distance of tail and power law", "ks_distance", ".3f"),
    Column("p", "goodness of fit; 0.1 or less rules the power law out", "p_value", ".2f"),
    Column("best fit", "distribution that describes the tail best", "best_distribution", ""),
    Column("α-hat", "alpha times ln of the largest eigenvalue", "alpha_hat", ".2f"),
    Column("stable rank", "squared Frobenius norm over largest eigenvalue", "stable_rank", ".1f"),
    Column("λ max", "largest eigenvalue of WᵀW", "lambda_max", ".3g"),
    Column("MP soft rank", "edge of noise over largest eigenvalue", "mp_soft_rank", ".2f"),
    Column("spikes", "eigenvalues beyond noise", "num_spikes", ".0f"),
)


def phase_dot(phase: str) -> str:
    """A mark in the colour of a phase."""
    return f'<i class="{phase}"></i>'


def headings(columns: Sequence[Column]) -> str:
    """The heading of each column, a button to sort by."""

    def heading(text: str, title: str, kind: str) -> str:
        left = ' class="left"' if kind == "text" else ""
        button = f'<button type="button" title="{escape(title)}">{escape(text)}</button>'
        return f'<th scope="col" data-kind="{kind}"{left}>{button}</th>'

    return "".join(
        [
            heading("layer", "path of the weights", "text"),
            heading("shape", "rows x columns; sorts by the number of eigenvalues", "number"),
            '<th scope="col" class="left"><button type="button" disabled>spectrum</button></th>',
            heading("phase", "phase of training", "text"),
            heading("α", "exponent of the power law ± one standard error", "number"),
            heading("tail", "eigenvalues in the tail", "number"),
            *[heading(c.heading, c.title, "number" if c.style else "text") for c in columns],
            heading("no fit because", "why there is no power law", "text"),
        ]
    )


def layer_rows(report: Measurements, rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A layer: the line of its one matrix, or one of ranges and, hidden, those of its matrices."""
    lines = [_line(report, rows, columns, part=False)]
    if len(rows) > 1:
        lines += [_line(report, [row], columns, part=True) for row in rows]
    name = escape(rows[0]["name"])
    phases = " ".join(sorted({row["phase"] for row in rows}))
    return f'<tbody data-name="{name}" data-phases="{phases}">{"".join(lines)}</tbody>'


def _line(
    report: Measurements, rows: Sequence[Row], columns: Sequence[Column], *, part: bool
) -> str:
    first = rows[0]
    fitted = [row for row in rows if row["valid"]]
    reason = "" if len(rows) > 1 or first["valid"] else first["reason"]
    if len(rows) > 1 and len(fitted) < len(rows):
        reasons = fold(row["reason"] for row in rows if not row["valid"])
        reason = "; ".join(f"{text} ({count})" for text, count in reasons)
    phase, phases = _texts(rows, "phase", phase_dot)
    if len(rows) == 1 and not part and isinstance(why := first.get("phase_reason"), str):
        phases = f'<span title="{escape(why)}">{phases}</span>'
    alpha = _range(fitted, "alpha", ".2f")
    if len(rows) == 1 and fitted:
        alpha += f" ± {first['sigma']:.2f}"
    shapes = {f"{row['rows']} x {row['cols']}" for row in rows}
    shape = shapes.pop() if len(shapes) == 1 else "different shapes"
    size = sum(row["num_eigenvalues"] for row in rows)
    cells = [
        (size, f"{f'{len(rows)} of ' if len(rows) > 1 else ''}{shape}"),
        ("", _spectrum(report, rows)),
        (phase, phases),
        (_mean(fitted, "alpha"), alpha),
        (_mean(fitted, "num_tail"), _range(fitted, "num_tail", ".0f")),
        *[
            (_mean(rows, c.key), _range(rows, c.key, c.style)) if c.style else _texts(rows, c.key)
            for c in columns
        ],
        (escape(reason), escape(reason)),
    ]
    name = first["name"].removesuffix("/kernel")
    heading = escape(name).replace("/", "/<wbr>")
    if part:
        # Only the first line of a layer is sorted by.
        tds = "".join(f"<td>{text}</td>" for _, text in cells)
        return f'<tr class="part" hidden><th>[{escape(first["index"])}]</th>{tds}</tr>'
    if len(rows) > 1:
        heading = f'<button class="open" aria-expanded="false">{heading}</button>'
    tds = "".join(f'<td data-v="{value}">{text}</td>' for value, text in cells)
    return f'<tr><th scope="row" data-v="{escape(name)}">{heading}</th>{tds}</tr>'


def _texts(
    rows: Sequence[Row], key: str, mark: Callable[[str], str] = lambda text: ""
) -> tuple[str, str]:
    """The most common text of a column, and all of them with how often they occur."""
    counts = Counter(row[key] for row in rows if isinstance(row[key], str) and row[key])
    if not counts:
        return "", ""
    listed = (
        mark(text) + escape(text) + (f" {count}" if len(rows) > 1 else "")
        for text, count in counts.most_common()
    )
    return escape(counts.most_common(1)[0][0]), "<br>".join(listed)


def _spectrum(report: Measurements, rows: Sequence[Row]) -> str:
    spectra = [report.spectra[row["name"], row["index"]] for row in rows]
    drawn = _svg.tail(rows, spectra)
    if len(rows) == 1:
        drawn += _svg.bulk(rows[0], spectra[0])
    return f'<button class="spectrum">{drawn}</button>' if drawn else ""


def _values(rows: Sequence[Row], key: str) -> list[float]:
    return [float(row[key]) for row in rows if not pd.isna(row[key])]


def _range(rows: Sequence[Row], key: str, style: str) -> str:
    values = _values(rows, key)
    if not values:
        return ""
    low, high = format(min(values), style), format(max(values), style)
    return low if low == high else f"{low} – {high}"


def _mean(rows: Sequence[Row], key: str) -> str:
    values = _values(rows, key)
    return f"{math.fsum(values) / len(values):.6g}" if values else ""
