"""A report as one page that needs no network: a reading, figures, and a table to sort."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from . import _svg
from ._figures import PHASES
from ._reading import MEANINGS, Remark, caveats, fold, left_out, phase_counts, verdicts

if TYPE_CHECKING:
    from ._report import Report

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of numbers: its heading, what it is, where its value comes from, its format."""

    heading: str
    title: str
    key: str
    style: str


COLUMNS = (
    Column("D", "Kolmogorov-Smirnov distance of tail and power law", "ks_distance", ".3f"),
    Column("p", "goodness of fit; 0.1 or less rules the power law out", "p_value", ".2f"),
    Column("α-hat", "alpha times ln of the largest eigenvalue", "alpha_hat", ".2f"),
    Column("stable rank", "squared Frobenius norm over largest eigenvalue", "stable_rank", ".1f"),
    Column("λ max", "largest eigenvalue of WᵀW", "lambda_max", ".3g"),
    Column("MP soft rank", "edge of noise over largest eigenvalue", "mp_soft_rank", ".2f"),
    Column("spikes", "eigenvalues beyond noise", "num_spikes", ".0f"),
)


def write_html(report: Report, path: str | Path, *, title: str, progress: bool) -> Path:
    """See :meth:`Report.to_html`."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(_page(report, title, progress=progress), encoding="utf-8")
    os.replace(partial, path)
    return path


def _page(report: Report, title: str, *, progress: bool) -> str:
    rows: list[Row] = report.layers.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        row["phase"] = row["phase"] if isinstance(row["phase"], str) else ""
    layers: dict[str, list[Row]] = {}
    for row in rows:
        layers.setdefault(row["name"], []).append(row)
    columns = [c for c in COLUMNS if report.layers[c.key].notna().any()]
    bar = tqdm(layers.values(), desc="page", unit="layer", disable=not progress)
    counts = phase_counts([row["phase"] for row in rows])
    summary = report.summary
    script = (files("fitting") / "_page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": escape(title),
        "subtitle": f"{summary['num_matrices']} weight matrices in {summary['num_layers']} layers; "
        f"convolutions as {escape(report.conv)}",
        "verdicts": "".join(map(_remark, [*verdicts(report), *left_out(report)])),
        "caveats": "".join(map(_remark, caveats(report))),
        "phases": "".join(
            f"<dt>{_dot(phase)}{phase} <small>({count})</small></dt><dd>{escape(MEANINGS[phase])}"
            for phase, count in counts
        ),
        "figures": _overview(rows),
        "numbers": "".join(f"<dt>{name}</dt><dd>{text}" for name, text in _numbers(summary)),
        "options": "".join(f"<option>{phase}</option>" for phase, _ in counts),
        "headings": _headings(columns),
        "rows": "\n".join(_layer(report, layer, columns) for layer in bar),
        "skipped": _skipped(report),
        "colors": _colors(),
        "script": script,
        "hash": f"sha256-{digest}",
    }
    template = (files("fitting") / "_page.html").read_text(encoding="utf-8")
    # In one pass, so that no name of a layer is taken for a place to fill.
    return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)


def _colors() -> str:
    """The phases as classes, open where an alpha says nothing."""
    return "\n".join(
        f"i.{phase}, circle.{phase} {{ fill: {fill}; stroke: {color}; "
        f"background: {fill}; border-color: {color} }}"
        for phase, (color, _) in PHASES.items()
        for fill in ["transparent" if phase == "RANDOM_LIKE" else color]
    )


def _dot(phase: str) -> str:
    return f'<i class="{phase}"></i>'


def _remark(remark: Remark) -> str:
    names = ""
    if remark.layers:
        listed = escape(", ".join(remark.layers))
        plural = "" if len(remark.layers) == 1 else "s"
        names = (
            f"<details><summary>{len(remark.layers)} layer{plural}</summary><p>{listed}</details>"
        )
    return f"<div><h3>{escape(remark.heading)}</h3><p>{escape(remark.text)}{names}</div>"


def _overview(rows: Sequence[Row]) -> str:
    if not any(row["valid"] for row in rows):
        return "<p>No matrix has a power-law fit.</p>"
    return (
        f"<figure>{_svg.alpha_by_depth(rows)}<figcaption>alpha over the layers, in the order of "
        "the report. Ticks at the bottom: no power law. Open: a spectrum like noise's, whose alpha "
        "says nothing.</figcaption></figure>"
        f"<figure>{_svg.alpha_histogram(rows)}<figcaption>How many matrices have which alpha."
        "</figcaption></figure>"
    )


def _numbers(summary: dict[str, Any]) -> list[tuple[str, str]]:
    fits, norms = summary["num_valid"], summary["num_measured"]

    def over(key: str, count: int, style: str = ".3f") -> str:
        return (
            f"{format(summary[key], style)} <small>over {count} matrices</small>" if count else "–"
        )

    edges = summary["num_marchenko_pastur"]
    published = f"{summary['published_alpha_hat']:.3f}" if fits else "–"
    return [
        ("mean alpha", over("mean_alpha", fits)),
        ("mean alpha-hat", over("mean_alpha_hat", fits) + f"; in log10 {published}"),
        ("sum of alpha-hat", over("sum_alpha_hat", fits) + " <small>(the paper's Eq. 3)</small>"),
        ("mean log spectral norm", over("mean_log_spectral_norm", norms)),
        ("mean log Frobenius norm", over("mean_log_frobenius_norm", norms)),
        ("mean stable rank", over("mean_stable_rank", norms, ".1f")),
        ("mean MP soft rank", over("mean_mp_soft_rank", edges)),
    ]


def _headings(columns: Sequence[Column]) -> str:
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
            *[heading(c.heading, c.title, "number") for c in columns],
            heading("no fit because", "why there is no power law", "text"),
        ]
    )


def _layer(report: Report, rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A layer: the line of its one matrix, or one of ranges and, hidden, those of its matrices."""
    lines = [_line(report, rows, columns, part=False)]
    if len(rows) > 1:
        lines += [_line(report, [row], columns, part=True) for row in rows]
    name = escape(rows[0]["name"])
    phases = " ".join(sorted({row["phase"] for row in rows}))
    return f'<tbody data-name="{name}" data-phases="{phases}">{"".join(lines)}</tbody>'


def _line(report: Report, rows: Sequence[Row], columns: Sequence[Column], *, part: bool) -> str:
    first = rows[0]
    fitted = [row for row in rows if row["valid"]]
    counts = Counter(row["phase"] for row in rows if row["phase"])
    phase = "<br>".join(
        f"{_dot(p)}{p}" + (f" {n}" if len(rows) > 1 else "") for p, n in counts.most_common()
    )
    reason = "" if len(rows) > 1 or first["valid"] else first["reason"]
    if len(rows) > 1 and len(fitted) < len(rows):
        reasons = fold(row["reason"] for row in rows if not row["valid"])
        reason = "; ".join(f"{text} ({count})" for text, count in reasons)
    alpha = _range(fitted, "alpha", ".2f")
    if len(rows) == 1 and fitted:
        alpha += f" ± {first['sigma']:.2f}"
    shapes = {f"{row['rows']} x {row['cols']}" for row in rows}
    shape = shapes.pop() if len(shapes) == 1 else "different shapes"
    common = counts.most_common(1)[0][0] if counts else ""
    size = sum(row["num_eigenvalues"] for row in rows)
    cells = [
        (size, f"{f'{len(rows)} of ' if len(rows) > 1 else ''}{shape}"),
        ("", _spectrum(report, rows)),
        (common, phase),
        (_mean(fitted, "alpha"), alpha),
        (_mean(fitted, "num_tail"), _range(fitted, "num_tail", ".0f")),
        *[(_mean(rows, c.key), _range(rows, c.key, c.style)) for c in columns],
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


def _spectrum(report: Report, rows: Sequence[Row]) -> str:
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


def _skipped(report: Report) -> str:
    if not len(report.skipped):
        return ""
    records = report.skipped.to_dict("records")
    cells = ([f"<td>{escape(str(value))}</td>" for value in record.values()] for record in records)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return (
        f"<details><summary>{len(records)} tensors not measured</summary>"
        f'<div class="scroll"><table class="skipped"><tbody>{lines}</tbody></table></div></details>'
    )
