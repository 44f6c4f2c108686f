"""The shell's way to the evaluation: ``spectral-reg evaluate MODEL``, ``compare A B``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._compare_command import add_compare_command
from ._evaluate import CONV, evaluate
from ._report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 on bad input (argparse exits 2 on usage)."""
    parser = argparse.ArgumentParser(prog="spectral-reg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("evaluate", help="measure the spectra of a checkpoint")
    command.add_argument("model", type=Path, help="a PyTorch or .safetensors file")
    command.add_argument(
        "--conv", choices=CONV, default="slices", help="what a convolution becomes"
    )
    command.add_argument("--layers", nargs="+", metavar="PATTERN", help="such as 'layer3/*'")
    command.add_argument("--bootstrap", type=int, default=0, help="bootstraps for p-values")
    command.add_argument("--out", type=Path, help="write the whole report to this JSON file")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    add_compare_command(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command == "compare":
            options.run(options)
            return 0
        report = evaluate(
            options.model,
            conv=options.conv,
            layers=options.layers,
            num_bootstrap=options.bootstrap,
            progress=sys.stderr.isatty(),
        )
        if options.out:
            report.save(options.out)
    except (ValueError, ImportError, OSError) as error:
        print(f"spectral-reg: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        show(report, Console())
    return 0


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


if __name__ == "__main__":
    raise SystemExit(main())
