"""A report as a table for the terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from .._reports import Report, fold, fused_whole, not_measured, phase_counts
from ._tables import Column, print_table

Row = dict[str, Any]


def show(report: Report, console: Console, *, every_matrix: bool = False) -> None:
    """Prints a report as a table that fits 80 characters, and its summary below.

    Args:
        report: The report.
        console: Where to.
        every_matrix: A line for each matrix; otherwise one for each layer, where the slices of a
            convolution, or the matrices of a stack, are ranges: smallest to largest, in brackets
            how many of them have a power law, and their most common phase.
    """
    by = ["name", "index"] if every_matrix else ["name"]
    cells = []
    for _, layer in report.layers.groupby(by, sort=False):
        rows: list[Row] = layer.to_dict("records")  # type: ignore[assignment]
        cells.append(_cells(rows, every_matrix=every_matrix))
    # Where there is no phase, why.
    print_table(
        console,
        (
            Column("layer", is_name=True),
            Column("shape", drop=2),
            Column("stable\nrank", drop=3),
            Column("alpha"),
            Column("MP soft\nrank", drop=1),
            Column("phase", max_width=16),
        ),
        cells,
    )
    summary = report.summary
    phases = ", ".join(f"{count} {phase}" for phase, count in phase_counts(report.layers["phase"]))
    console.print(
        f"\n{summary['num_valid']} of {summary['num_matrices']} matrices in "
        f"{summary['num_layers']} layers have a power-law fit. Over these, in natural logarithms: "
        f"mean alpha {summary['mean_alpha']:.2f}, mean alpha-hat {summary['mean_alpha_hat']:.2f}, "
        f"sum of alpha-hat {summary['sum_alpha_hat']:.1f}. Over the {summary['num_measured']} that "
        f"are finite and not all zero: mean stable rank {summary['mean_stable_rank']:.1f}."
    )
    if phases:
        console.print(f"Phases: {phases}.")
    for reason, count in fold(report.layers.loc[~report.layers["valid"], "reason"]):
        console.print(f"  {count} not fitted: {escape(reason)}")
    for reason, count in fold(report.skipped["reason"]):
        console.print(f"  {count} tensors skipped: {escape(reason)}")
    for text in filter(None, (not_measured(report), fused_whole(report))):
        console.print(escape(text), highlight=False)


def _cells(rows: Sequence[Row], *, every_matrix: bool) -> tuple[str, ...]:
    """The line of one matrix, or of the matrices of one layer."""
    first = rows[0]
    alphas = [row["alpha"] for row in rows if row["valid"]]
    phases = [row["phase"] for row in rows if isinstance(row["phase"], str)]
    place = f"[{first['index']}]" if every_matrix and first["index"] else ""
    shape = f"{first['rows']}x{first['cols']}"
    if len(rows) == 1:
        alpha = f"{first['alpha']:.2f} ± {first['sigma']:.2f}" if alphas else ""
        phase = phases[0] if phases else first["reason"]
    else:
        alike = len({(row["rows"], row["cols"]) for row in rows}) == 1
        shape = f"{len(rows)} of {shape}" if alike else f"{len(rows)} shapes"
        alpha = _range(alphas, ".1f")
        alpha += f" ({len(alphas)})" if 0 < len(alphas) < len(rows) else ""
        common = max(phases, key=phases.count, default="")
        phase = f"{common} {phases.count(common)}" if common else first["reason"]
    return (
        first["name"].removesuffix("/kernel") + place,
        shape,
        _range([row["stable_rank"] for row in rows], ".1f"),
        alpha,
        _range([row["mp_soft_rank"] for row in rows], ".2f"),
        phase,
    )


def _range(values: Sequence[float], style: str) -> str:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return ""
    low, high = format(min(finite), style), format(max(finite), style)
    return low if low == high else f"{low}-{high}"
