"""Small drawings of a series for its page, with no library behind them."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import pandas as pd

from .._reports import MEANINGS
from ..palette import PHASES
from ._measured import MeasuredSeries
from ._sentences import label

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FLOOR = 240, 130, 34, 8, 10, 108
# Beyond, an alpha is drawn at the upper end: it says only that the tail is steep.
TOP_ALPHA = 10.0
CELL, WIDEST, NAMES, MAX_CELLS = 14, 40, 190, 700


def alpha_curve(table: pd.DataFrame, steps: Sequence[int]) -> str:
    """Alpha of one matrix by step, with a band of one standard error and the phase as colour."""
    fitted = table[table["valid"]]
    if not len(fitted):
        return ""
    place = {step: number for number, step in enumerate(steps)}
    alpha = np.minimum(fitted["alpha"].to_numpy(float), TOP_ALPHA)
    sigma = fitted["sigma"].to_numpy(float)
    low = max(1.0, float(np.nanmin(alpha - sigma)))
    high = min(TOP_ALPHA, float(np.nanmax(alpha + sigma)))
    span = max(high - low, 0.05)
    x = [_across(place[step], len(steps)) for step in fitted["step"]]

    def y(values: np.ndarray) -> np.ndarray:
        return FLOOR - (FLOOR - TOP) * (np.clip(values, low, low + span) - low) / span

    upper, lower, middle = y(alpha + sigma), y(alpha - sigma), y(alpha)
    corners = [*zip(x, upper, strict=True), *reversed([*zip(x, lower, strict=True)])]
    parts = [_line(corners, "b", closed=True), _line(zip(x, middle, strict=True), "e")]
    for a, b, phase in zip(x, middle, fitted["phase"], strict=True):
        parts.append(f'<circle class="{_phase(phase)}" cx="{a:.0f}" cy="{b:.0f}" r="2.6"/>')
    parts.append(f'<path class="a" d="M{LEFT},{FLOOR}H{WIDTH - RIGHT}"/>')
    parts += [
        f'<text x="2" y="{at:.0f}">{value:.2f}</text>'
        for value, at in ((low + span, TOP + 8), (low, FLOOR))
    ]
    parts.append(f'<text x="{LEFT}" y="125">{steps[0]}</text>')
    parts.append(f'<text class="r" x="{WIDTH - RIGHT}" y="125">{steps[-1]}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'


def phase_map(series: MeasuredSeries) -> str:
    """A cell for each matrix and step in the colour of its phase."""
    groups, steps = list(series.matrices()), series.steps
    cell = max(2.0, min(WIDEST, MAX_CELLS / len(steps)))
    height = max(3.0, min(CELL, 1400 / max(len(groups), 1)))
    place = {step: number for number, step in enumerate(steps)}
    width, gap = NAMES + cell * len(steps), 0.6 if height > 4 else 0.0
    parts = []
    for row, ((name, index), table) in enumerate(groups):
        text = label(name, index)
        if height >= 9:
            shown = text if len(text) <= 30 else f"…{text[-29:]}"
            parts.append(
                f'<text class="r" x="{NAMES - 6}" y="{height * (row + 0.8):.1f}">'
                f"{escape(shown)}</text>"
            )
        # One bar for neighbours of one phase.
        runs: list[tuple[str, int, int]] = []
        for step, phase in zip(table["step"], table["phase"], strict=True):
            kind, first = _phase(phase), place[step]
            end = first + 1
            if runs and (runs[-1][0], runs[-1][2]) == (kind, first):
                first = runs.pop()[1]
            runs.append((kind, first, end))
        for kind, first, end in runs:
            color = PHASES[kind][0]
            parts.append(
                f'<rect x="{NAMES + cell * first:.1f}" y="{height * row:.1f}" '
                f'width="{cell * (end - first):.1f}" height="{height - gap:.1f}" fill="{color}">'
                f"<title>{escape(text)}: {kind}, {steps[first]} to {steps[end - 1]}</title></rect>"
            )
    floor = height * len(groups)
    parts.append(f'<text x="{NAMES}" y="{floor + 13:.0f}">{steps[0]}</text>')
    parts.append(f'<text class="r" x="{width:.0f}" y="{floor + 13:.0f}">{steps[-1]}</text>')
    size = f"0 0 {width:.0f} {floor + 18:.0f}"
    return (
        f'<svg viewBox="{size}" role="img" style="max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )


def _line(points: Iterable[tuple[float, float]], style: str, *, closed: bool = False) -> str:
    places = " ".join(f"{a:.0f},{b:.0f}" for a, b in points)
    return f'<path class="{style}" d="M{places}{"Z" if closed else ""}"/>'


def _across(number: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * number / max(count - 1, 1)


def _phase(phase: object) -> str:
    return phase if isinstance(phase, str) and phase in MEANINGS else "UNCLASSIFIED"
