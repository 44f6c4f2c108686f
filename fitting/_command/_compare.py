"""``spectral-reg compare``: models side by side, and what changed between them."""

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import spectral_reg as sr

from .._comparison import SIGNIFICANT, Comparison, check_quality, compare
from .._evaluation import CONV, evaluate
from .._reports import Report, is_report, load_report

# Columns of values that fit 80 characters beside the names of the metrics.
MODELS_A_TABLE = 4
MAX_LAYERS = 30
# Of both models side by side: heading to quantity and format.
PAIRS = {
    "λ max": ("lambda_max", ".3g"),
    "R_s": ("stable_rank", ".1f"),
    "alpha": ("alpha", ".2f"),
}


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
    add_folder_options(command, "comparison.json")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    command.set_defaults(run=run_compare, check=_check(command))


def add_conv_option(command: argparse.ArgumentParser) -> None:
    """Adds ``--conv``, which is the same for every command."""
    command.add_argument(
        "--conv",
        type=_conv,
        default="slices",
        metavar="{slices,pooled,flatten,HEIGHTxWIDTH}",
        help="what a convolution becomes; a size of its input, such as 32x32, for its operator",
    )


def add_folder_options(command: argparse.ArgumentParser, kept: str) -> None:
    """Adds ``--out`` and ``--plot``: the folder of what is ``kept``, and that of the figures."""
    command.add_argument("--out", type=Path, metavar="DIR", help=f"folder for {kept}")
    command.add_argument(
        "--plot", type=Path, metavar="DIR", help="write the figures to this folder"
    )


def _conv(text: str) -> str | sr.ConvOperator:
    if text in CONV:
        return text
    try:
        return sr.conv_operator(*map(int, text.split("x")))
    except ValueError:
        known = ", ".join(CONV)
        message = f"it is {text!r}; expected one of {known} or a size such as 32x32"
        raise argparse.ArgumentTypeError(message) from None


def _check(command: argparse.ArgumentParser) -> Any:
    def check(options: argparse.Namespace) -> None:
        if len(options.models) < 2:
            command.error("expected at least 2 models to compare")
        if options.names and len(options.names) != len(options.models):
            command.error(f"{len(options.names)} names for {len(options.models)} models")
        names = options.names or [_stem(path) for path in options.models]
        if len(set(names)) < len(names):
            twice = ", ".join(name for name, count in Counter(names).items() if count > 1)
            command.error(f"several models are called {twice}: tell them apart with --names")
        options.names = names

    return check


def run_compare(options: argparse.Namespace) -> None:
    """Compares and prints; raises what :func:`fitting.compare` raises."""
    options.check(options)
    quality = _read_quality(options.quality) if options.quality else None
    if quality is not None:
        check_quality(quality, options.names)
    reports = {
        name: _read(path, options.conv)
        for name, path in zip(options.names, options.models, strict=True)
    }
    comparison = compare(reports, quality=quality)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        comparison.save(options.out / "comparison.json")
    if options.plot:
        comparison.plot(options.plot)
    if options.json:
        print(json.dumps(comparison.to_dict()))
    else:
        show_comparison(comparison, Console())


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


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the values, the statistics and the layers in tables that fit 80 characters."""
    values = comparison.values.T
    for start in range(0, values.shape[1], MODELS_A_TABLE):
        console.print(_values_table(values.iloc[:, start : start + MODELS_A_TABLE]))
        console.print()
    console.print("Means and sums of Report.summary: natural logarithms, log10 in published_*.")
    if comparison.quality is not None:
        console.print()
        console.print(_statistics_table(comparison))
        console.print(f"\n* p < {SIGNIFICANT}, one test at a time.\n")
        for sentence in comparison.reading:
            console.print(f"- {escape(sentence)}", highlight=False)
    for note in comparison.notes:
        console.print(f"\n{escape(note)}.", highlight=False)
    if comparison.layers is not None and len(comparison.values) == 2:
        console.print()
        _show_layers(comparison.layers, console)


def _table(*headings: str) -> Table:
    first, *others = headings
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(escape(first), overflow="fold", no_wrap=first != "layer")
    for heading in others:
        table.add_column(escape(heading), justify="right", overflow="fold")
    return table


def _values_table(values: pd.DataFrame) -> Table:
    table = _table("metric", *map(str, values.columns))
    for metric, row in values.iterrows():
        table.add_row(str(metric), *(_number(value, ".4g") for value in row))
    return table


def _statistics_table(comparison: Comparison) -> Table:
    given = ["r given\n" + name.removeprefix("log_num_") for name in comparison.controls]
    table = _table("quality against", "n", "RMSE", "R²", "95 %", "tau", "p", *given)
    for metric, row in comparison.table.to_dict("index").items():
        table.add_row(
            str(metric),
            f"{row['num_models']:.0f}",
            _number(row["rmse"], ".2f"),
            _number(row["r2"], ".2f"),
            "" if row["r2"] != row["r2"] else f"{row['r2_low']:.2f}-{row['r2_high']:.2f}",
            _number(row["tau"], "+.2f"),
            _number(row["tau_p"], ".1g"),
            *(_partial(row[f"r_given_{n}"], row[f"p_given_{n}"]) for n in comparison.controls),
        )
    return table


def _partial(r: float, p: float) -> str:
    return _number(r, "+.2f") + ("*" if p < SIGNIFICANT else "")


def _show_layers(layers: pd.DataFrame, console: Console) -> None:
    """One line a layer, means over its matrices; the most changed ones where there are many."""
    models = list(layers["lambda_max"].columns)
    numbers = layers.drop(columns="phase", level=0).astype("float64")
    means = numbers.groupby(level="name", sort=False).mean()
    change = means["spectrum_change", models[1]]
    num_equal = int((change == 0).sum())
    num_layers = len(means)
    if num_layers > MAX_LAYERS:
        means = means[change >= change.nlargest(MAX_LAYERS).min()]
        console.print(f"The {len(means)} most changed of {num_layers} layers:")
    headings = [f"{heading}\n{number}" for heading in PAIRS for number in (1, 2)]
    table = _table("layer", "spectrum\nchange", *headings)
    for name, row in means.iterrows():
        pairs = [
            _number(row[quantity, model], style)
            for quantity, style in PAIRS.values()
            for model in models
        ]
        change_text = _number(row["spectrum_change", models[1]], ".3f")
        table.add_row(str(name).removesuffix("/kernel"), change_text, *pairs)
    console.print(table)
    console.print(
        f"\n1: {escape(models[0])}, 2: {escape(models[1])}; R_s is the stable rank. Spectrum "
        "change: distance of the singular values over the larger norm. "
        f"{num_equal} of {num_layers} layers have equal spectra."
    )


def _number(value: float, style: str) -> str:
    return "" if value != value else format(value, style)
