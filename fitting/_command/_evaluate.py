"""``spectral-reg evaluate``: the spectra of one checkpoint."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from .._checkpoints import FORMATS
from .._evaluation import EXTRAS, evaluate
from .._whole_file import check_place, written_whole
from ._options import add_conv_option, add_folder_options
from ._report_table import show

MODEL = (
    f"a checkpoint: a file ({' '.join(FORMATS)}), the .index.json of a sharded one, an Orbax "
    "folder, or a folder that holds one of these, such as Hugging Face's"
)


def add_evaluate_command(commands: Any) -> None:
    """Adds the ``evaluate`` command to the subparsers of the command line."""
    command: argparse.ArgumentParser = commands.add_parser(
        "evaluate", help="measure the spectra of a checkpoint"
    )
    command.add_argument("model", type=Path, help=MODEL)
    command.add_argument(
        "--base", type=Path, metavar="MODEL", help="measure the change from this checkpoint instead"
    )
    add_conv_option(command)
    command.add_argument("--layers", nargs="+", metavar="PATTERN", help="such as 'layer3/*'")
    command.add_argument(
        "--num-bootstrap", type=int, default=0, metavar="N", help="bootstraps for each p-value"
    )
    command.add_argument(
        "--extras", nargs="+", default=(), choices=EXTRAS, help="columns to measure beside"
    )
    add_folder_options(
        command, "report.json, report.html, table.csv, figures, and each finished weight"
    )
    command.add_argument("--resume", action="store_true", help="continue from what --out holds")
    command.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as a page to this file"
    )
    command.add_argument(
        "--weightwatcher", type=Path, metavar="CSV", help="write WeightWatcher's table to this file"
    )
    command.add_argument("--all", action="store_true", help="a line for each matrix")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=run_evaluate, check=_check(command))


def _check(command: argparse.ArgumentParser) -> Any:
    def check(options: argparse.Namespace) -> None:
        if options.resume and options.out is None:
            command.error("--out is missing; expected the folder that --resume continues from")

    return check


def run_evaluate(options: argparse.Namespace) -> None:
    """Evaluates, writes and prints; raises what :func:`fitting.evaluate` raises."""
    options.check(options)
    progress = sys.stderr.isatty()
    for path in filter(None, (options.html, options.weightwatcher)):
        if options.out not in (path.parent, *path.parents):  # which the evaluation makes
            check_place(path)  # before the work, which would be lost
    report = evaluate(
        options.model,
        base=options.base,
        conv=options.conv,
        layers=options.layers,
        num_bootstrap=options.num_bootstrap,
        extras=options.extras,
        out=options.out,
        resume=options.resume,
        progress=progress,
    )
    title = options.model.resolve().name
    if options.out:
        report.to_html(options.out / "report.html", title=title, progress=progress)
        with written_whole(options.out / "table.csv") as partial:
            report.layers.to_csv(partial, index=False)
        report.plot(options.out / "figures", progress=progress)
    for path in filter(None, (options.html, options.weightwatcher)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if options.html:
        report.to_html(options.html, title=title, progress=progress)
    if options.plot:
        report.plot(options.plot, progress=progress)
    if options.weightwatcher:
        with written_whole(options.weightwatcher) as partial:
            report.to_weightwatcher().to_csv(partial, index=False)
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        show(report, Console(), every_matrix=options.all)
