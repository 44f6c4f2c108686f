"""The shell's way to the evaluation: ``spectral-reg evaluate MODEL``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import spectral_reg as sr
from spectral_reg._conv_operator import ConvOperator

from ._evaluate import CONV, evaluate
from ._report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 on bad input (argparse exits 2 on usage)."""
    parser = argparse.ArgumentParser(prog="spectral-reg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("evaluate", help="measure the spectra of a checkpoint")
    command.add_argument("model", type=Path, help="a PyTorch or .safetensors file")
    command.add_argument(
        "--conv",
        type=_conv,
        default="slices",
        metavar="{slices,pooled,flatten,HEIGHTxWIDTH}",
        help="what a convolution becomes; a size of its input, such as 32x32, for its operator",
    )
    command.add_argument("--layers", nargs="+", metavar="PATTERN", help="such as 'layer3/*'")
    command.add_argument("--bootstrap", type=int, default=0, help="bootstraps for p-values")
    command.add_argument(
        "--out", type=Path, help="folder for each finished weight, and report.json at the end"
    )
    command.add_argument("--resume", action="store_true", help="go on with what --out holds")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    if options.command == "evaluate" and options.resume and options.out is None:
        command.error("--resume needs --out, the folder to go on with")
    try:
        report = evaluate(
            options.model,
            conv=options.conv,
            layers=options.layers,
            num_bootstrap=options.bootstrap,
            out=options.out,
            resume=options.resume,
            progress=sys.stderr.isatty(),
        )
    except (ValueError, ImportError, OSError) as error:
        print(f"spectral-reg: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        show(report, Console())
    return 0


def _conv(text: str) -> str | ConvOperator:
    if text in CONV:
        return text
    try:
        return sr.conv_operator(*map(int, text.split("x")))
    except ValueError:
        known = ", ".join(CONV)
        message = f"expected one of {known} or a size such as 32x32, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


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
