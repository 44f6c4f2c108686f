"""A report in a few lines, and in a notebook."""

from html import escape

from ._measurements import Measurements
from ._remarks import fused_whole, not_measured, phase_counts

SHOWN = [
    "name", "index", "kind", "rows", "cols", "alpha", "sigma", "stable_rank", "mp_soft_rank",
    "phase",
]  # fmt: skip
MAX_ROWS = 20


def describe_report(report: Measurements) -> list[str]:
    """The lines that stand for it: what was measured, what it says, what is missing."""
    summary = report.summary
    layers, matrices = (
        f"{summary[key]} {one if summary[key] == 1 else many}"
        for key, one, many in (
            ("num_layers", "layer", "layers"), ("num_matrices", "matrix", "matrices")
        )
    )  # fmt: skip
    phases = ", ".join(f"{count} {phase}" for phase, count in phase_counts(report.layers["phase"]))
    lines = [f"Report of {matrices} in {layers}, convolutions as {report.conv}"]
    lines += [f"  phases: {phases}"] if phases else []
    if summary["num_valid"]:
        lines.append(f"  mean alpha {summary['mean_alpha']:.2f} over {summary['num_valid']} fits")
    lines += [f"  {text}" for text in (not_measured(report), fused_whole(report)) if text]
    return [*lines, "  layers, skipped, summary, spectrum(name); plot(), to_html(path), save(path)"]


def report_html(report: Measurements) -> str:
    """What a notebook shows: the same lines, and the first rows of the table."""
    lines = "<br>".join(escape(line.strip()) for line in describe_report(report)[:-1])
    table = report.layers[SHOWN].head(MAX_ROWS)
    rows = table.to_html(float_format="{:.3g}".format, border=0, na_rep="", index=False)
    more = len(report.layers) - len(table)
    return f"<div><p>{lines}</p>{rows}{f'<p>and {more} more rows</p>' if more > 0 else ''}</div>"
