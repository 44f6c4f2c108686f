"""Gains of the arms over their controls: of all claims at once, of one, and what they cost."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from examples.claims.claim import Claim, Measured
from examples.claims.statistics import Comparison

HEIGHT = 0.28
# Standard errors beyond which an overview need not tell apart.
FAR = 100
BASELINE, CONTROL = "tab:blue", "tab:orange"


def draw_gains(claim: Claim, comparisons: Sequence[Comparison], path: Path) -> Path:
    """Draws one line a comparison: the gain over the baseline in blue, over controls in orange."""
    figure, axes = plt.subplots(figsize=(7, 1.1 + HEIGHT * len(comparisons)), layout="constrained")
    seen = ""
    for place, one in enumerate(comparisons):
        color = BASELINE if one.arm != seen else CONTROL
        seen = one.arm
        axes.plot([one.low, one.high], [place, place], color=color, linewidth=2)
        axes.plot(one.gain, place, "o", color=color, markersize=5)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(
        range(len(comparisons)), [f"{one.arm} over {one.control}" for one in comparisons]
    )
    axes.margins(y=0.15)
    axes.invert_yaxis()
    axes.set_xlabel("gain, positive where the arm is better, with its 95 % interval")
    axes.set_title(claim.title, fontsize="medium")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def draw_overview(rows: Sequence[tuple[str, Comparison, Comparison]], path: Path) -> Path:
    """Draws one line an arm, in standard errors, as claims differ in what they count.

    Args:
        rows: The arm's name, and its comparisons with its baseline and its strongest control.
        path: Of the figure.
    """
    figure, axes = plt.subplots(figsize=(8, 1.2 + HEIGHT * len(rows)), layout="constrained")
    axes.axvspan(-2, 2, color="0.93")
    kinds = {
        "baseline": (BASELINE, [own for _, own, _ in rows]),
        "strongest control": (CONTROL, [hardest for *_, hardest in rows]),
    }
    for name, (color, comparisons) in kinds.items():
        gains = [_in_errors(one) for one in comparisons]
        axes.plot(gains, range(len(rows)), "o", color=color, markersize=6, label=f"over its {name}")
    axes.set_xscale("symlog", linthresh=2)
    axes.set_xlim(-FAR, FAR)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.set_xlabel("gain in standard errors, positive where the arm is better; grey: within 2")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _in_errors(one: Comparison) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.clip(np.nan_to_num(np.divide(one.gain, one.standard_error)), -FAR, FAR))


def draw_tried(
    claim: Claim, qualities: Measured, scores: Measured, enough: float, path: Path
) -> Path:
    """Draws what every setting that was tried gains, over the quality that it costs.

    Args:
        claim: Its arms that are controls only are drawn as crosses.
        qualities: By arm, `[num_settings]`.
        scores: By arm, by which one is chosen, `[num_settings]`.
        enough: The quality from which on settings are chosen.
        path: Of the figure.
    """
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    every = np.concatenate([*qualities.values()])
    # The worst settings would press all others together.
    lowest = np.quantile(every[np.isfinite(every)], 0.15)
    for arm, quality in qualities.items():
        is_claimed = bool(claim.arms[arm].controls)
        shape = {"marker": "o"} if is_claimed else {"marker": "x", "alpha": 0.8}
        shown = quality >= lowest
        x, y = quality[shown], scores[arm][shown]
        axes.plot(x, y, linestyle="none", markersize=7, label=arm, **shape)
    axes.axvline(enough, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel(f"{claim.axes[0]}; settings right of the line are chosen from")
    axes.set_ylabel(claim.axes[1])
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
