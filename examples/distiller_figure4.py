"""The first paper's Figure 4: a regularized ResNet20 before and after fine-tuning, map by map.

    python -m examples.distiller_figure4 --checkpoints FOLDER

Draws lambda_max and alpha of the 45 feature maps that the paper shows, and checks what it says of
them. FOLDER holds the files of distiller_resnet20.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats

import fitting
import spectral_reg as sr
from examples.presenting import figures, record
from fitting import palette

FILE = "checkpoint_trained_{}.pth.tar"
BASELINE, FINETUNED, DENSE, CHANNELS = (
    "4D_regularized_5Lremoved",
    "4D_regularized_5Lremoved_finetuned",
    "dense",
    "ch_regularized_dense",
)
# Mean alpha and mean alpha-hat, in log10, of the authors' notebook (WeightWatcher 0.1.2).
PUBLISHED = {
    BASELINE: (3.196, 0.307),
    FINETUNED: (2.928, 1.011),
    DENSE: (3.290, 1.262),
    CHANNELS: (2.950, -0.428),
}
# What WeightWatcher 0.1.2 left out as too small. The 64 x 64 maps remain, of five convolutions.
MIN_SIZE = 50
# Read off the paper's figure: lambda_max of the last convolution's maps in the baseline.
LAST_IN_FIGURE = 0.09
# A map counts as changed where its lambda_max is this many times larger or smaller.
CHANGED = 1.5


REMARKS = """Baseline is `4D_regularized_5Lremoved`, fine-tuned is `..._finetuned`. Lines separate
the five 64 x 64 convolutions of the last stage, the only ones that WeightWatcher 0.1.2 did not omit
as smaller than 50. The paper quotes 91.45 % for the baseline and 91.02 % for the fine-tuned
model. The files score 90.72 % and, as stored, 11.71 %: the batch-norm statistics of the second do
not go with its weights, so which of the two generalizes better cannot be told from them.

alpha-hat is in log10 here, as published. The exact fits rest on 19 eigenvalues of 64 in the median,
with a standard error of 0.44; `fitting.evaluate` calls those on fewer than 10 invalid (6 of 45 in
the baseline), and they are kept here as the paper kept its own."""


class Maps(NamedTuple):
    """The feature maps of a model, in its order; `[map]` each, NaN where there is no fit.

    `layers` names the convolution, `alpha` is the exact fit, `published_alpha` that of the paper.
    """

    layers: list[str]
    lambda_max: np.ndarray
    squared_norm: np.ndarray
    alpha: np.ndarray
    published_alpha: np.ndarray


def published_alpha(eigenvalues: np.ndarray) -> float:
    """Alpha as WeightWatcher 0.1.2 had it from powerlaw 1.4.3 with `xmax` = lambda_max.

    The estimate at each xmin knows no upper bound, 1 + n / sum(ln(l / xmin)); the distance by which
    xmin is chosen does: it divides the law's distribution function by its value at lambda_max, and
    counts the share of eigenvalues below each, not up to it.

    Args:
        eigenvalues: Squared singular values, in any order.

    Returns:
        The alpha at the xmin of least distance.
    """
    ordered = np.sort(eigenvalues[eigenvalues > 0])
    best = (np.inf, np.nan)
    for first in range(ordered.size - 1):
        tail = ordered[first:] / ordered[first]
        alpha = 1 + tail.size / np.log(tail).sum()
        law = (1 - tail ** (1 - alpha)) / (1 - tail[-1] ** (1 - alpha))
        distance = np.abs(law - np.arange(tail.size) / tail.size).max()
        best = min(best, (distance, alpha))
    return float(best[1])


def read_maps(path: Path) -> Maps:
    """The maps of a checkpoint, of every convolution that has 50 eigenvalues a map."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    names, spectra = [], []
    for name, kernel in _convolutions(sr.params_from_torch(content["state_dict"])).items():
        if min(kernel.shape[2:]) >= MIN_SIZE:
            maps = np.linalg.svd(kernel.astype(np.float64), compute_uv=False) ** 2
            names += [name] * maps[..., 0].size
            spectra += list(maps.reshape(-1, maps.shape[-1]))
    fits = [fitting.fit_power_law(spectrum) for spectrum in spectra]
    return Maps(
        layers=names,
        lambda_max=np.array([spectrum.max() for spectrum in spectra]),
        squared_norm=np.array([spectrum.sum() for spectrum in spectra]),
        alpha=np.array([fit.alpha for fit in fits]),
        published_alpha=np.array([published_alpha(spectrum) for spectrum in spectra]),
    )


def _convolutions(params: dict[str, Any], path: str = "") -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found |= _convolutions(value, f"{path}{name}/")
        elif name == "kernel" and value.ndim == 4:
            found[path.rstrip("/")] = value
    return found


def against_published(maps: dict[str, Maps]) -> Table:
    """Means over the maps: as published, as recomputed by the same rule, and by the exact fit."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model")
    for heading in ("published\nα", "\nα̂", "recomputed\nα", "\nα̂", "exact fit\nα", "\nα̂"):
        table.add_column(heading, justify="right")
    for name, found in maps.items():
        log_top = np.log10(found.lambda_max)
        means = [np.mean(x) for a in (found.published_alpha, found.alpha) for x in (a, a * log_top)]
        table.add_row(name, *(f"{x:.3f}" for x in (*PUBLISHED[name], *means)))
    return table


def claims(maps: dict[str, Maps]) -> list[tuple[str, bool, str]]:
    """What the paper says of its Figure 4, whether it holds, and the numbers that show it."""
    before, after, dense = maps[BASELINE], maps[FINETUNED], maps[DENSE]
    ratio = after.lambda_max / before.lambda_max
    layers = list(dict.fromkeys(before.layers))
    by_layer = {name: ratio[[n == name for n in before.layers]] for name in layers}
    larger = [name for name in layers if by_layer[name].min() > CHANGED]
    in_larger = np.array([name in larger for name in before.layers])
    smaller_before = int((before.lambda_max < after.lambda_max).sum())
    num_maps = len(before.layers)
    signed = {
        "published rule": after.published_alpha - before.published_alpha,
        "exact fit": after.alpha - before.alpha,
    }
    p = {rule: float(stats.wilcoxon(change).pvalue) for rule, change in signed.items()}
    tests = "; ".join(
        f"{rule}: {(change > 0).sum()} of {num_maps} rise, mean {change.mean():+.2f}, Wilcoxon p "
        f"{p[rule]:.2f}"
        for rule, change in signed.items()
    )
    top = "λ_max"
    last = float(np.median(before.lambda_max[-9:]))
    return [
        (
            "Fine-tuning increases the norms of the maps of at least 2 convolutions.",
            len(larger) >= 2,
            f"{len(larger)} of {len(layers)}: "
            + ", ".join(f"{name} (median x {np.median(by_layer[name]):.1f})" for name in larger),
        ),
        (
            "The other convolutions keep theirs.",
            bool((np.abs(np.log(ratio[~in_larger])) < np.log(CHANGED)).all()),
            f"{top} x {ratio[~in_larger].min():.2f} to {ratio[~in_larger].max():.2f}",
        ),
        (
            "The better baseline does not have the smaller spectral norms ('the opposite').",
            not np.mean(np.log(ratio)) > 0,
            f"{top} is smaller before in {smaller_before} of {num_maps} maps; mean "
            f"{before.lambda_max.mean():.2f} before, {after.lambda_max.mean():.2f} after",
        ),
        (
            "Nor the smaller Frobenius norms.",
            not after.squared_norm.mean() > before.squared_norm.mean(),
            f"mean ‖W‖² {before.squared_norm.mean():.1f} before, "
            f"{after.squared_norm.mean():.1f} after",
        ),
        (
            "They gain the mass of the 5 removed convolutions.",
            bool(np.median(after.lambda_max[in_larger]) > np.median(dense.lambda_max[in_larger])),
            "the 5 are all zero before and after, and not among these; the dense model has "
            f"{top} {np.median(dense.lambda_max[in_larger]):.2f} in the maps that grow from "
            f"{np.median(before.lambda_max[in_larger]):.2f} to "
            f"{np.median(after.lambda_max[in_larger]):.2f} (medians)",
        ),
        ("The alphas do not differ systematically.", min(p.values()) > 0.05, tests),
        (
            "The average alpha is smaller before fine-tuning.",
            bool(before.published_alpha.mean() < after.published_alpha.mean()),
            f"by the paper's own tool {before.published_alpha.mean():.3f} before and "
            f"{after.published_alpha.mean():.3f} after; by the exact fit {before.alpha.mean():.3f} "
            f"and {after.alpha.mean():.3f}, a difference that chance explains",
        ),
        (
            "λ_max is shown with 1/N.",
            bool(abs(np.log(last / 64 / LAST_IN_FIGURE)) < abs(np.log(last / LAST_IN_FIGURE))),
            f"the figure has about {LAST_IN_FIGURE} for the last 9 maps of the baseline; the "
            f"median eigenvalue of WᵀW there is {last:.3f}, and N is 64",
        ),
    ]


def claims_table(found: Sequence[tuple[str, bool, str]]) -> Table:
    """The claims, one a row."""
    table = Table(box=None, padding=(0, 2, 1, 0))
    table.add_column("what the paper says", ratio=2)
    table.add_column("holds")
    table.add_column("measured", ratio=3)
    for claim, holds, numbers in found:
        table.add_row(claim, "yes" if holds else "no", numbers)
    return table


def draw(before: Maps, after: Maps) -> Figure:
    """Lambda_max, alpha as published and alpha of the exact fit, over the maps."""
    style: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.6, 3.5), layout="constrained")
        panels = (
            ("lambda_max", r"$\lambda_{\max}$ of $W^T W$"),
            ("published_alpha", "α as published"),
            ("alpha", "α, exact fit"),
        )
        tallest = max(m.published_alpha.max() for m in (before, after))
        for axes, (field, title) in zip(figure.subplots(1, 3), panels, strict=True):
            for maps, label, colour, marker in (
                (before, "baseline", palette.DARK["color"], "o"),
                (after, "fine-tuned", palette.LIGHT["color"], "s"),
            ):
                axes.plot(getattr(maps, field), marker, color=colour, markersize=4, label=label)
            for start in range(9, len(before.layers), 9):
                axes.axvline(start - 0.5, color="0.85", linewidth=0.8, zorder=0)
            axes.set(title=title, xlabel="feature map", ylim=(0, None))
            if field != "lambda_max":
                axes.set_ylim(0, 1.05 * tallest)
        figure.axes[0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.1))
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.distiller_figure4", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--checkpoints", type=Path, required=True, help="of distiller_resnet20")
    parser.add_argument("--out", type=Path, default=Path("runs/distiller-figure4"))
    options = parser.parse_args(arguments)
    try:
        maps = {name: read_maps(options.checkpoints / FILE.format(name)) for name in PUBLISHED}
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    means, checked = against_published(maps), claims_table(claims(maps))
    figure = draw(maps[BASELINE], maps[FINETUNED])
    figures.save(figure, options.out / "figure4.png")
    console = Console()
    console.print(means)
    console.print()
    console.print(checked)
    command = "python -m examples.distiller_figure4 --checkpoints FOLDER"
    num_maps = len(maps[BASELINE].layers)
    heading = f"Figure 4 of the first paper: ResNet20, {num_maps} feature maps of 64 x 64"
    sections: list[str | Table] = ["![Figure 4](figure4.png)", REMARKS, means, checked]
    print(record.write(options.out / "results.md", heading, sections, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
