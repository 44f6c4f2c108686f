"""``spectral-reg follow``: one model over training."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .._series import SIGNIFICANT, Series, follow, label, remarks
from .._whole_file import check_place, written_whole
from ._options import add_conv_option, add_folder_options

MAX_ROWS = 20


def add_follow_command(commands: Any) -> None:
    """Adds the ``follow`` command to the subparsers of the command line."""
    command: argparse.ArgumentParser = commands.add_parser(
        "follow", help="measure the checkpoints of one run, step by step"
    )
    command.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="a folder of checkpoints with their steps in the names, or the checkpoints",
    )
    add_conv_option(command)
    command.add_argument("--layers", nargs="+", metavar="PATTERN", help="such as 'layer3/*'")
    command.add_argument(
        "--num-bootstrap", type=int, default=200, metavar="N", help="bootstraps for each p-value"
    )
    add_folder_options(
        command, "series.json, series.html, trends.csv, figures, and each finished matrix"
    )
    command.add_argument("--resume", action="store_true", help="continue from what --out holds")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a page to this file")
    command.add_argument("--json", action="store_true", help="print the series as JSON")
    command.set_defaults(run=run_follow)


def run_follow(options: argparse.Namespace) -> None:
    """Follows, writes and prints; raises what :func:`fitting.follow` raises."""
    if options.resume and options.out is None:
        raise ValueError("--out is missing; expected the folder of the series to resume")
    if options.html and options.out not in (options.html.parent, *options.html.parents):
        check_place(options.html)  # before the work, which would be lost
    given = options.checkpoints
    series = follow(
        given[0] if len(given) == 1 else given,
        out=options.out,
        resume=options.resume,
        conv=options.conv,
        layers=options.layers,
        num_bootstrap=options.num_bootstrap,
        progress=sys.stderr.isatty(),
    )
    title = given[0].resolve().name
    if options.out:
        series.to_html(options.out / "series.html", title=title)
        with written_whole(options.out / "trends.csv") as partial:
            series.trends().to_csv(partial, index=False)
        series.plot(options.out / "figures")
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        series.to_html(options.html, title=title)
    if options.plot:
        series.plot(options.plot)
    if options.json:
        print(json.dumps(series.to_dict()))
    else:
        show_series(series, Console())


def show_series(series: Series, console: Console) -> None:
    """Prints what changed most, in a table that fits 80 characters, and the words."""
    trends = series.trends()
    alphas = trends[trends["quantity"] == "alpha"].set_index(["name", "index"])
    norms = trends[trends["quantity"] == "spectral_norm"].set_index(["name", "index"])
    order = (alphas["change"] / alphas["error"]).abs().sort_values(ascending=False).index
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("matrix", no_wrap=True, overflow="ellipsis", ratio=1)
    for heading in ("first\nalpha", "last\nalpha", "change", "q", "change of\nspectral norm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key in order[:MAX_ROWS]:
        row, norm = alphas.loc[key], norms.loc[key]
        table.add_row(
            escape(label(*key)),
            _number(row["first"], ".2f"),
            _number(row["last"], ".2f"),
            _with_error(row),
            _number(row["q_value"], ".1g"),
            _with_error(norm),
        )
    console.print(table)
    if len(order) > MAX_ROWS:
        console.print(f"The {MAX_ROWS} clearest of {len(order)}; * q of {SIGNIFICANT} or less.\n")
    else:
        console.print(f"* q of {SIGNIFICANT} or less.\n")
    for remark in remarks(series, trends):
        console.print(f"- {escape(remark.text)}", highlight=False)


def _with_error(trend: pd.Series) -> str:
    if pd.isna(trend["change"]):
        return ""
    mark = "*" if trend["q_value"] <= SIGNIFICANT else ""
    return f"{trend['change']:+.2g} ± {trend['error']:.1g}{mark}"


def _number(value: float, style: str) -> str:
    return "" if pd.isna(value) else format(value, style)
