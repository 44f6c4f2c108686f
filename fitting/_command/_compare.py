"""``spectral-reg compare``: models side by side, and what changed between them."""

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

import spectral_reg as sr

from .._comparison import Comparison, check_quality, compare, is_drawable
from .._evaluation import evaluate
from .._reports import Report, is_report, load_report
from .._whole_file import check_place, written_whole
from ._comparison_table import show_comparison
from ._options import add_conv_option, add_folder_options


def add_compare_command(commands: Any) -> None:
    """Adds the ``compare`` command to the subparsers of the command line."""
    command: argparse.ArgumentParser = commands.add_parser(
        "compare", help="compare checkpoints, or reports that evaluate has saved"
    )
    command.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL", help="a checkpoint or a report (.json)"
    )
    command.add_argument("--names", nargs="+", help="what to call them; default: the files' names")
    command.add_argument(
        "--quality", type=Path, metavar="FILE", help="JSON {name: number} or CSV lines name,number"
    )
    add_conv_option(command)
    add_folder_options(
        command, "comparison.json, comparison.html, metrics.csv, layers.csv and the figures"
    )
    command.add_argument("--html", type=Path, metavar="FILE", help="write a page to this file")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    command.set_defaults(run=run_compare, check=_check(command))


def _check(command: argparse.ArgumentParser) -> Any:
    def check(options: argparse.Namespace) -> None:
        if len(options.models) < 2:
            command.error(f"MODEL is given {len(options.models)} times; expected at least 2")
        if options.names and len(options.names) != len(options.models):
            command.error(
                f"--names has {len(options.names)}; expected one for each of "
                f"{len(options.models)} models"
            )
        names = options.names or [_stem(path) for path in options.models]
        if len(set(names)) < len(names):
            twice = ", ".join(name for name, count in Counter(names).items() if count > 1)
            command.error(
                f"{twice} is the name of several models; expected --names to tell them apart"
            )
        options.names = names

    return check


def run_compare(options: argparse.Namespace) -> None:
    """Compares and prints; raises what :func:`fitting.compare` raises."""
    options.check(options)
    if options.html and options.out not in (options.html.parent, *options.html.parents):
        check_place(options.html)  # before the work, which would be lost
    quality = _read_quality(options.quality) if options.quality else None
    if quality is not None:
        check_quality(quality, options.names)
    reports = {
        name: _read(path, options.conv)
        for name, path in zip(options.names, options.models, strict=True)
    }
    comparison = compare(reports, quality=quality)
    if options.out:
        _write_folder(comparison, options.out)
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        comparison.to_html(options.html)
    if options.plot:
        comparison.plot(options.plot)
    if options.json:
        print(json.dumps(comparison.to_dict()))
    else:
        show_comparison(comparison, Console())


def _write_folder(comparison: Comparison, folder: Path) -> None:
    """All that a person wants of it, but figures where there is nothing to draw."""
    folder.mkdir(parents=True, exist_ok=True)
    comparison.save(folder / "comparison.json")
    comparison.to_html(folder / "comparison.html")
    with written_whole(folder / "metrics.csv") as partial:
        comparison.values.T.join(comparison.table).to_csv(partial, index_label="metric")
    layers = comparison.layers
    if layers is not None:
        flat = layers.set_axis([" ".join(column) for column in layers.columns], axis=1)
        with written_whole(folder / "layers.csv") as partial:
            flat.to_csv(partial)
    if is_drawable(comparison):
        comparison.plot(folder / "figures")


def _stem(path: Path) -> str:
    name = path.name
    for suffix in reversed(path.suffixes):
        # A version number in a name is no suffix.
        if suffix[1:].isalpha() or suffix in (".h5", ".th"):
            name = name.removesuffix(suffix)
    return name


def _read(path: Path, conv: str | sr.ConvOperator) -> Report:
    if is_report(path):
        return load_report(path)
    return evaluate(path, conv=conv, progress=sys.stderr.isatty())


def _read_quality(path: Path) -> dict[str, float]:
    """Raises ValueError where the file is no table of names and numbers."""
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            return {str(name): float(number) for name, number in json.loads(text).items()}
        rows = [row for row in csv.reader(text.splitlines()) if row]
        # A heading has no number.
        first = 0 if _is_number(rows[0][1]) else 1
        return {name.strip(): float(number) for name, number, *_ in rows[first:]}
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is no table of qualities ({error}); expected JSON such as "
            '{"model": 71.6}, or CSV lines such as model,71.6'
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
