"""Do the spectra of trained networks tell which one is better? Two series of CIFAR ResNets.

    python -m examples.compare_checkpoints --checkpoints FOLDER

FOLDER holds resnet_cifar_karanchahal/ and distiller_resnet20/.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import fitting
from examples.papers.published_metrics import NORMS, PRINTED, SERIES
from examples.presenting import record

KARANCHAHAL = "resnet_cifar_karanchahal/{}.pth"
DISTILLER = "distiller_resnet20/checkpoint_trained_{}.pth.tar"
# Top-1 on the test images, in per cent.
CIFAR10 = {
    "resnet8_cifar10": 89.59,
    "resnet14_cifar10": 92.18,
    "resnet20_cifar10": 93.02,
    "resnet26_cifar10": 93.41,
    "resnet32_cifar10": 93.69,
    "resnet8_cifar10_distilled": 91.00,
    "WRN10_1_cifar10": 88.06,
    "WRN16_1_cifar10": 91.75,
    "WRN28_1_cifar10": 92.89,
}
CIFAR100 = {
    "resnet8_cifar100": 64.11,
    "resnet14_cifar100": 68.30,
    "resnet20_cifar100": 69.69,
    "resnet26_cifar100": 71.06,
    "resnet32_cifar100": 71.69,
}
# The fine-tuned one is not among them: as stored it scores 11.71.
RESNET20 = {"dense": 91.71, "ch_regularized_dense": 90.81, "4D_regularized_5Lremoved": 90.72}

LEGEND = """n: models that have the metric. RMSE, R² with its 95 % interval (Fisher's z): regression
of the accuracy on the metric. tau: Kendall's, with its exact p-value. given layers, given weights:
partial correlation with the accuracy beside the log of the number of layers or weights, and its
p-value. p as α̂: p-value of going with the accuracy as strongly as mean_alpha_hat does (Williams).
Natural logarithms; each p-value is that of one test alone."""


def quality_table(comparison: fitting.Comparison) -> Table:
    """One line a metric: regression, rank correlation, and what is left beyond depth and size."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("accuracy against", no_wrap=True, min_width=26)
    short = {"log_num_layers": "layers", "log_num_weights": "weights", "log_depth": "depth"}
    given = [f"{short[name]}\n{text}" for name in comparison.controls for text in ("r", "p")]
    for heading in ("n", "RMSE", "R²", "95 %", "tau", "p", *(f"given\n{text}" for text in given)):
        table.add_column(heading, justify="right")
    table.add_column("p as α̂", justify="right")
    for name, row in comparison.table.to_dict("index").items():
        partial = [
            record.shown(row[f"{text}_given_{control}"], style)
            for control in comparison.controls
            for text, style in (("r", "+.2f"), ("p", ".2g"))
        ]
        table.add_row(
            str(name),
            f"{row['num_models']:.0f}",
            record.shown(row["rmse"], ".2f"),
            record.shown(row["r2"], ".2f"),
            f"{row['r2_low']:.2f}-{row['r2_high']:.2f}" if row["r2"] == row["r2"] else "–",
            record.shown(row["tau"], "+.2f"),
            record.shown(row["tau_p"], ".2g"),
            *partial,
            record.shown(row["p_equal_to_reference"], ".2g"),
        )
    return table


def values_table(comparison: fitting.Comparison) -> Table:
    """The metrics of a few models side by side."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in comparison.values.index:
        table.add_column(str(name), justify="right")
    for metric, row in comparison.values.T.iterrows():
        table.add_row(str(metric), *(record.shown(value, ".3f") for value in row))
    return table


def published_table(comparisons: dict[str, fitting.Comparison]) -> Table:
    """The published statistics beside those computed from the published values."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("series", "metric"):
        table.add_column(heading)
    for heading in ("RMSE", "printed", "R²", "printed", "tau", "printed"):
        table.add_column(heading, justify="right")
    for series, comparison in comparisons.items():
        for metric, printed in zip(NORMS, PRINTED[series], strict=True):
            row = comparison.table.loc[metric]
            found = (row["rmse"], row["r2"], row["tau"])
            pairs = zip(found, printed, strict=True)
            table.add_row(series, metric, *(f"{x:.2f}" for pair in pairs for x in pair))
    return table


def _compare(
    folder: Path, pattern: str, quality: dict[str, float], conv: str, *, statistics: bool = True
) -> fitting.Comparison:
    reports = {
        name: fitting.evaluate(folder / pattern.format(name), conv=conv, progress=False)
        for name in quality
    }
    return fitting.compare(reports, quality=quality if statistics else None)


def _bullets(comparison: fitting.Comparison) -> str:
    return "\n".join(f"- {sentence}" for sentence in comparison.reading)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.compare_checkpoints", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/compare-cifar"))
    options = parser.parse_args(arguments)
    series = {
        "cifar10-slices": ("CIFAR-10, 9 networks, feature maps", CIFAR10, "slices"),
        "cifar10-pooled": ("CIFAR-10, 9 networks, maps pooled a layer", CIFAR10, "pooled"),
        "cifar100-slices": ("CIFAR-100, 5 networks, feature maps", CIFAR100, "slices"),
        "cifar100-pooled": ("CIFAR-100, 5 networks, maps pooled a layer", CIFAR100, "pooled"),
    }
    sections: list[str | Table] = [LEGEND]
    try:
        for name, (title, quality, conv) in series.items():
            comparison = _compare(options.checkpoints, KARANCHAHAL, quality, conv)
            (options.out / name).mkdir(parents=True, exist_ok=True)
            # Thousands of lines, which the networks' different depths make of little use.
            comparison = dataclasses.replace(comparison, layers=None)
            comparison.save(options.out / name / "comparison.json")
            sections += [f"## {title}", quality_table(comparison), _bullets(comparison)]
            if conv == "slices":
                comparison.plot(options.out / name)
                sections += [
                    f"![Accuracy against mean alpha-hat]({name}/alpha_hat.png)",
                    f"![Accuracy against each metric]({name}/metrics.png)",
                ]
        one_depth = _compare(options.checkpoints, DISTILLER, RESNET20, "slices", statistics=False)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    scores = ", ".join(f"{name} {score}" for name, score in RESNET20.items())
    sections += [f"## One depth: three ResNet20s, top-1 {scores}", values_table(one_depth)]

    published = {
        name: fitting.compare_values(
            table.drop(columns="top1"), quality=table["top1"], controls=["log_depth"]
        )
        for name, table in SERIES.items()
    }
    sections += ["## The published series, from the published values", published_table(published)]
    for name, comparison in published.items():
        sections += [f"### {name}", quality_table(comparison), _bullets(comparison)]
    console = Console()
    for section in sections:
        console.print(section, highlight=False)
        console.print()
    command = "python -m examples.compare_checkpoints --checkpoints FOLDER"
    heading = "Metrics of the spectra against accuracy"
    print(record.write(options.out / "results.md", heading, sections, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
