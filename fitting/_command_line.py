"""The shell's way to the evaluation: ``spectral-reg evaluate MODEL``, ``compare A B``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import spectral_reg as sr
from spectral_reg._conv_operator import ConvOperator

from ._compare_command import add_compare_command
from ._evaluation._evaluate import CONV, evaluate
from ._reports._table import show


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 on bad input (argparse exits 2 on usage)."""
    parser = argparse.ArgumentParser(prog="spectral-reg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("evaluate", help="measure the spectra of a checkpoint")
    command.add_argument("model", type=Path, help="a checkpoint: file or folder")
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
    command.add_argument("--html", type=Path, help="write the report as a page to this file")
    command.add_argument("--plot", type=Path, help="write the figures to this folder")
    command.add_argument("--all", action="store_true", help="a line for each matrix")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    add_compare_command(commands)
    options = parser.parse_args(arguments)
    if options.command == "evaluate" and options.resume and options.out is None:
        command.error("--resume needs --out, the folder to go on with")
    try:
        if options.command == "compare":
            options.run(options)
            return 0
        report = evaluate(
            options.model,
            conv=options.conv,
            layers=options.layers,
            num_bootstrap=options.bootstrap,
            out=options.out,
            resume=options.resume,
            progress=sys.stderr.isatty(),
        )
        if options.html:
            report.to_html(options.html, title=options.model.name, progress=sys.stderr.isatty())
        if options.plot:
            report.plot(options.plot, progress=sys.stderr.isatty())
    except (ValueError, ImportError, OSError) as error:
        print(f"spectral-reg: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        show(report, Console(), every_matrix=options.all)
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


if __name__ == "__main__":
    raise SystemExit(main())
