"""A report as a table for the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._report import Report


def show(report: Report, console: Console) -> None:
    """Prints a report as a table that fits 80 characters, and its summary below."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    for heading in ("shape", "stable\nrank", "λ max", "alpha", "MP soft\nrank"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    for row in report.layers.to_dict("records"):
        layer = row["name"].removesuffix("/kernel") + (f"[{row['index']}]" if row["index"] else "")
        table.add_row(
            escape(layer),
            f"{row['rows']}x{row['cols']}",
            _number(row["stable_rank"], ".1f"),
            _number(row["lambda_max"], ".3g"),
            f"{row['alpha']:.2f} ± {row['sigma']:.2f}" if row["valid"] else "",
            _number(row["mp_soft_rank"], ".2f"),
            row["phase"] if isinstance(row["phase"], str) else "",
        )
    console.print(table)
    summary = report.summary
    console.print(
        f"\n{summary['num_valid']} of {summary['num_matrices']} matrices in "
        f"{summary['num_layers']} layers have a power-law fit. Over these, in natural logarithms: "
        f"mean alpha {summary['mean_alpha']:.2f}, mean alpha-hat {summary['mean_alpha_hat']:.2f}, "
        f"sum of alpha-hat {summary['sum_alpha_hat']:.1f}, "
        f"mean stable rank {summary['mean_stable_rank']:.1f}."
    )
    reasons = report.layers.loc[~report.layers["valid"], "reason"].value_counts()
    for reason, count in reasons.items():
        console.print(f"  {count} not fitted: {escape(str(reason))}")
    for reason, count in report.skipped["reason"].value_counts().items():
        console.print(f"  {count} tensors skipped: {escape(str(reason))}")


def _number(value: float, style: str) -> str:
    return "" if value != value else format(value, style)
