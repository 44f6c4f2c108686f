"""A series as one page: words, the phases over training, and a curve for each matrix."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from .._reports import MEANINGS, fill, fold, phase_counts, phase_dot, remark_html
from .._whole_file import written_whole
from ._curves import alpha_curve, phase_map
from ._measured import MeasuredSeries
from ._sentences import SIGNIFICANT, label, remarks
from ._trends import QUANTITIES

HEADINGS = (
    ("matrix", "path of the weights", "text"),
    ("alpha", "", ""),
    ("phases", "at the first and last checkpoint; sorts by the last", "text"),
    ("alpha from to", "of the fits at the first and last checkpoint; sorts by the last", "number"),
    ("Δ alpha", "change of alpha, with a tail of one size", "number"),
    ("Δ stable rank", "change of the stable rank", "number"),
    ("Δ spectral norm", "change of the largest singular value", "number"),
    ("Δ entropy", "change of the entropy of the spectrum", "number"),
    ("q of alpha", "share of false alarms among changes no less clear", "number"),
)


def write_page(series: MeasuredSeries, path: str | Path, *, title: str) -> Path:
    """See :meth:`Series.to_html`."""
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_text(_page(series, title), encoding="utf-8")
    return path


def _page(series: MeasuredSeries, title: str) -> str:
    steps, layers = series.steps, series.layers
    trends = series.trends()
    by_matrix = dict(iter(trends.groupby(["name", "index"], sort=False)))
    counts = phase_counts(layers["phase"])
    parts = {
        "title": escape(title),
        "subtitle": f"{len(by_matrix)} weight matrices at {len(steps)} checkpoints, steps "
        f"{steps[0]} to {steps[-1]}; convolutions as {escape(series.conv)}",
        "remarks": "".join(map(remark_html, remarks(series, trends))),
        "phases": "".join(
            f"<dt>{phase_dot(phase)}{phase} <small>({count})</small></dt>"
            f"<dd>{escape(MEANINGS[phase])}"
            for phase, count in counts
        ),
        "map": phase_map(series),
        "options": "".join(f"<option>{phase}</option>" for phase, _ in counts),
        "headings": "".join(_heading(*heading) for heading in HEADINGS),
        "rows": "\n".join(
            _row(key, table, by_matrix[key], steps) for key, table in series.matrices()
        ),
        "skipped": _skipped(series.skipped),
    }
    return fill((files(__package__) / "_page.html").read_text(encoding="utf-8"), parts)


def _heading(text: str, title: str, kind: str) -> str:
    left = ' class="left"' if kind != "number" else ""
    state = f'title="{escape(title)}"' if kind else "disabled"
    button = f'<button type="button" {state}>{escape(text)}</button>'
    return f'<th scope="col" data-kind="{kind}"{left}>{button}</th>'


def _row(
    key: tuple[str, str], table: pd.DataFrame, trends: pd.DataFrame, steps: Sequence[int]
) -> str:
    of = trends.set_index("quantity")
    name = escape(label(*key))
    curve = alpha_curve(table, steps)
    phases = table["phase"].dropna()
    ends = [phases.iloc[0], phases.iloc[-1]] if len(phases) else []
    if len(set(ends)) == 1:
        ends = ends[:1]
    alphas = table.loc[table["valid"], ["alpha", "sigma"]]
    first_to_last = ""
    if len(alphas):
        first, last = alphas.iloc[0], alphas.iloc[-1]
        first_to_last = " → ".join(
            f"{end['alpha']:.2f} ± {end['sigma']:.2f}" for end in (first, last)
        )
    cells = [
        ("", f'<button class="spectrum">{curve}</button>' if curve else ""),
        (ends[-1] if ends else "", " →<br>".join(phase_dot(p) + p for p in ends)),
        (_value(alphas["alpha"].iloc[-1] if len(alphas) else None), first_to_last),
        *[_change(of.loc[quantity]) for quantity in QUANTITIES],
        (_value(of.loc["alpha", "q_value"]), _number(of.loc["alpha", "q_value"], ".2g")),
    ]
    tds = "".join(f'<td data-v="{value}">{text}</td>' for value, text in cells)
    data = f'data-name="{name}" data-phases="{" ".join(sorted(set(phases)))}"'
    shown = name.replace("/", "/<wbr>")
    return f'<tbody {data}><tr><th scope="row" data-v="{name}">{shown}</th>{tds}</tr></tbody>'


def _change(trend: Any) -> tuple[str, str]:
    if pd.isna(trend["change"]):
        return "", ""
    text = f"{trend['change']:+.3g} ± {trend['error']:.2g}"
    if trend["q_value"] <= SIGNIFICANT:
        text = f'<span class="clear">{text}</span>'
    return _value(trend["change"]), text


def _value(number: Any) -> str:
    return "" if number is None or pd.isna(number) else f"{number:.6g}"


def _number(number: Any, style: str) -> str:
    return "" if pd.isna(number) else format(number, style)


def _skipped(skipped: pd.DataFrame) -> str:
    last = skipped[skipped["step"] == skipped["step"].max()]
    if not len(last):
        return ""
    lines = "".join(
        f"<tr><td>{escape(reason)}</td><td>{count}</td></tr>"
        for reason, count in fold(last["reason"])
    )
    return (
        f"<details><summary>{len(last)} tensors of the last checkpoint not measured</summary>"
        f'<table class="skipped"><tbody>{lines}</tbody></table></details>'
    )
