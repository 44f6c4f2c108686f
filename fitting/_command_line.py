"""The shell's way to the evaluation: ``spectral-reg evaluate MODEL``, ``compare A B``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ._compare_command import add_compare_command
from ._evaluate import CONV, evaluate
from ._table import show


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
    command.add_argument("--html", type=Path, help="write the report as a page to this file")
    command.add_argument("--plot", type=Path, help="write the figures to this folder")
    command.add_argument("--all", action="store_true", help="a line for each matrix")
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


if __name__ == "__main__":
    raise SystemExit(main())
