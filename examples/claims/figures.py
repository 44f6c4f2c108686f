"""Gains of the arms over their controls, with intervals."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from examples.claims.claim import Claim
from examples.claims.statistics import Comparison

HEIGHT = 0.28
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
