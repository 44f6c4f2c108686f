"""A report as one page that needs no network: a reading, figures, and a table to sort."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..._whole_file import written_whole
from ...palette import PHASES
from .._measurements import Measurements, Row
from .._remarks import MEANINGS, Remark, caveats, left_out, phase_counts, verdicts
from . import _svg
from ._table import COLUMNS, headings, layer_rows, phase_dot


def write_html(report: Measurements, path: str | Path, *, title: str, progress: bool) -> Path:
    """See :meth:`Report.to_html`."""
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_text(_page(report, title, progress=progress), encoding="utf-8")
    return path


def _page(report: Measurements, title: str, *, progress: bool) -> str:
    rows: list[Row] = report.layers.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        row["phase"] = row["phase"] if isinstance(row["phase"], str) else ""
    layers: dict[str, list[Row]] = {}
    for row in rows:
        layers.setdefault(row["name"], []).append(row)
    columns = [c for c in COLUMNS if c.key in report.layers and report.layers[c.key].notna().any()]
    bar = tqdm(layers.values(), desc="page", unit="layer", disable=not progress)
    counts = phase_counts([row["phase"] for row in rows])
    summary = report.summary
    parts = {
        "title": escape(title),
        "subtitle": f"{summary['num_matrices']} weight matrices in {summary['num_layers']} layers; "
        f"convolutions as {escape(report.conv)}",
        "verdicts": "".join(map(remark_html, [*verdicts(report), *left_out(report)])),
        "caveats": "".join(map(remark_html, caveats(report))),
        "phases": "".join(
            f"<dt>{phase_dot(phase)}{phase} <small>({count})</small></dt>"
            f"<dd>{escape(MEANINGS[phase])}"
            for phase, count in counts
        ),
        "figures": _overview(rows),
        "numbers": "".join(f"<dt>{name}</dt><dd>{text}" for name, text in _numbers(summary)),
        "options": "".join(f"<option>{phase}</option>" for phase, _ in counts),
        "headings": headings(columns),
        "rows": "\n".join(layer_rows(report, layer, columns) for layer in bar),
        "skipped": _skipped(report),
    }
    return fill((files(__package__) / "_page.html").read_text(encoding="utf-8"), parts)


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A page: a template with its parts, the style and the script that all pages share."""
    script = (files(__package__) / "_page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (files(__package__) / "_page.css").read_text(encoding="utf-8")
    shared = {
        "style": style.replace("@@colors@@", _colors()),
        "script": script,
        "hash": f"sha256-{digest}",
    }
    # In one pass, so that no name of a layer is taken for a place to fill.
    return re.sub(r"@@(\w+)@@", lambda match: (shared | dict(parts))[match[1]], template)


def _colors() -> str:
    """The phases as classes, open where an alpha says nothing."""
    return "\n".join(
        f"i.{phase}, circle.{phase} {{ fill: {fill}; stroke: {color}; "
        f"background: {fill}; border-color: {color} }}"
        for phase, (color, _) in PHASES.items()
        for fill in ["transparent" if phase == "RANDOM_LIKE" else color]
    )


def remark_html(remark: Remark) -> str:
    """A remark as a box, its layers folded away."""
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


def _skipped(report: Measurements) -> str:
    if not len(report.skipped):
        return ""
    records = report.skipped.to_dict("records")
    cells = ([f"<td>{escape(str(value))}</td>" for value in record.values()] for record in records)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return (
        f"<details><summary>{len(records)} tensors not measured</summary>"
        f'<div class="scroll"><table class="skipped"><tbody>{lines}</tbody></table></div></details>'
    )
