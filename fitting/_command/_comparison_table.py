"""A comparison as tables for the terminal."""

import pandas as pd
from rich.console import Console
from rich.markup import escape

from .._comparison import SIGNIFICANT, Comparison
from ._tables import Column, print_table

# Columns of values that fit 80 characters beside the names of the metrics.
MODELS_A_TABLE = 4
MAX_LAYERS = 30
# Of both models side by side: heading to quantity and format.
PAIRS = {
    "λ max": ("lambda_max", ".3g"),
    "R_s": ("stable_rank", ".1f"),
    "alpha": ("alpha", ".2f"),
}


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the values, the statistics and the layers in tables that fit 80 characters."""
    values = comparison.values.T
    for start in range(0, values.shape[1], MODELS_A_TABLE):
        _values_table(values.iloc[:, start : start + MODELS_A_TABLE], console)
        console.print()
    console.print("Means and sums of Report.summary: natural logarithms, log10 in published_*.")
    if comparison.quality is not None:
        console.print()
        _statistics_table(comparison, console)
        console.print(f"\n* p < {SIGNIFICANT}, one test at a time.\n")
        for sentence in comparison.reading:
            console.print(f"- {escape(sentence)}", highlight=False)
    for note in comparison.notes:
        console.print(f"\n{escape(note)}.", highlight=False)
    if comparison.layers is not None and len(comparison.values) == 2:
        console.print()
        _show_layers(comparison.layers, console)


def _values_table(values: pd.DataFrame, console: Console) -> None:
    columns = [Column("metric", is_name=True), *(Column(str(name)) for name in values.columns)]
    rows = [
        (str(metric), *(_number(value, ".4g") for value in row))
        for metric, row in values.iterrows()
    ]
    print_table(console, columns, rows)


def _statistics_table(comparison: Comparison, console: Console) -> None:
    given = ["r given\n" + name.removeprefix("log_num_") for name in comparison.controls]
    columns = [
        Column("quality against", is_name=True),
        Column("n", drop=2),
        Column("RMSE", drop=1),
        Column("R²"),
        Column("95 %", drop=3),
        Column("tau"),
        Column("p"),
        *(Column(heading, drop=4) for heading in given),
    ]
    rows = [
        (
            str(metric),
            f"{row['num_models']:.0f}",
            _number(row["rmse"], ".2f"),
            _number(row["r2"], ".2f"),
            "" if row["r2"] != row["r2"] else f"{row['r2_low']:.2f}-{row['r2_high']:.2f}",
            _number(row["tau"], "+.2f"),
            _number(row["tau_p"], ".1g"),
            *(_partial(row[f"r_given_{n}"], row[f"p_given_{n}"]) for n in comparison.controls),
        )
        for metric, row in comparison.table.to_dict("index").items()
    ]
    print_table(console, columns, rows)


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
    columns = [Column("layer", is_name=True), Column("spectrum\nchange")]
    columns += [
        Column(f"{heading}\n{number}", drop=drop + 1)
        for drop, heading in enumerate(PAIRS)
        for number in (1, 2)
    ]
    rows = []
    for name, row in means.iterrows():
        pairs = [
            _number(row[quantity, model], style)
            for quantity, style in PAIRS.values()
            for model in models
        ]
        change_text = _number(row["spectrum_change", models[1]], ".3f")
        rows.append((str(name).removesuffix("/kernel"), change_text, *pairs))
    print_table(console, columns, rows)
    console.print(
        f"\n1: {escape(models[0])}, 2: {escape(models[1])}; R_s is the stable rank. Spectrum "
        "change: distance of the singular values over the larger norm. "
        f"{num_equal} of {num_layers} layers have equal spectra."
    )


def _number(value: float, style: str) -> str:
    return "" if value != value else format(value, style)
