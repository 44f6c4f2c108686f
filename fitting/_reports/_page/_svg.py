"""Small drawings of spectra for a page: a few hundred bytes each, with no library behind them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...palette import PHASES
from .._drawing import (
    ALPHA_BINS,
    TOP_ALPHA,
    alpha_axis,
    alpha_counts,
    alpha_tick,
    bulk_histogram,
    bulk_law,
    bulk_note,
    depths,
    label,
    tail_note,
)
from .._measurements import Row

Array = NDArray[np.float64]
WIDTH, HEIGHT, FLOOR = 240, 130, 108
DECADES = 5.0
NUM_POINTS, MAX_BINS = 16, 24
SPACED = (np.geomspace, np.linspace)
MANY = 1000


def tail(rows: Sequence[Row], spectra: Sequence[Array]) -> str:
    """Share of eigenvalues at or above each on log-log axes; the power law too where it is one."""
    spectra = [s for s in spectra if np.isfinite(s).all() and s.any()]
    if not spectra:
        return ""
    positive = [np.sort(s[s > 0])[::-1] for s in spectra]
    top = np.log10(max(s[0] for s in positive))
    low = max(np.log10(min(s[-1] for s in positive)), top - DECADES)
    # Equal eigenvalues differ by rounding, which is not to fill the width.
    span = max(top - low, 0.05)
    lowest = 1 / max(s.size for s in spectra)
    row, law = rows[0], None
    if len(rows) == 1 and row["valid"]:
        ends = np.array([row["xmin"], 10**top])
        law = row["num_tail"] / spectra[0].size * (ends / ends[0]) ** (1 - row["alpha"])
        lowest = min(lowest, law[1])

    def x(value: Any) -> Array:
        return 6 + (WIDTH - 12) * (np.log10(value) - low) / span

    def y(share: Any) -> Array:
        return 6 + (FLOOR - 10) * np.log10(share) / (np.log10(lowest) or 1.0)

    parts = []
    for values, spectrum in zip(positive, spectra, strict=True):
        # Even in their logarithm for the tail, even in themselves for the rest.
        num_points = NUM_POINTS if len(rows) == 1 else NUM_POINTS // 2
        ranks = np.concatenate([spaced(1, values.size, num_points) for spaced in SPACED])
        ranks = np.unique(ranks.round().astype(int))
        ranks = ranks[np.log10(values[ranks - 1]) >= low - 1e-9]
        style = "e" if len(rows) == 1 else "e many"
        parts.append(_path(x(values[ranks - 1]), y(ranks / spectrum.size), style))
    note = ""
    if law is not None:
        parts.append(_path(x(ends), y(law), "f"))
        parts.append(f'<path class="x" d="M{x(ends[0]):.0f},6V{FLOOR}"/>')
        note = ", ".join(tail_note(row))
    return _figure("".join(parts), f"{10**low:.2g}", f"{10**top:.3g}", note, 8, FLOOR - 8)


def bulk(row: Row, eigenvalues: Array) -> str:
    """Histogram on linear axes, with the Marchenko-Pastur law, its edge and the spikes."""
    if not (np.isfinite(eigenvalues).all() and eigenvalues.any()):
        return ""
    law = bulk_law(row, eigenvalues)
    density, edges = bulk_histogram(eigenvalues, law, max_bins=MAX_BINS)
    limit = edges[-1]

    def x(value: Any) -> Array:
        return np.asarray(6 + (WIDTH - 12) * np.asarray(value) / edges[-1])

    def y(height: Any) -> Array:
        return FLOOR - (FLOOR - 12) * np.minimum(np.asarray(height) / density.max(), 1.06)

    # Each bar's top, then the last one's right side.
    lefts, tops = x(edges[:-1]), y(density)
    corners_x = np.append(np.repeat(lefts, 2), [x(edges[-1])] * 2)
    corners_y = np.concatenate([[FLOOR], np.repeat(tops, 2), [FLOOR]])
    parts = [_path(corners_x, corners_y, "b")]
    if law:
        low, high = law.lambda_minus, min(law.lambda_plus, limit)
        # Denser at the lower edge, where the law is steep.
        grid = low + (high - low) * np.linspace(0, 1, 17)[1:] ** 2
        parts.append(_path(x(grid), y(law.density(grid)), "f"))
        parts.append(f'<path class="x" d="M{x(law.lambda_plus):.0f},6V{FLOOR}"/>')
        spikes = [spike for spike in law.spikes if spike <= limit]
        ticks = "".join(f"M{x(spike):.0f},{FLOOR - 6}v6" for spike in spikes[:60])
        parts += [f'<path class="s" d="{ticks}"/>'] if ticks else []
    note = ", ".join(bulk_note(eigenvalues, law, limit))
    return _figure("".join(parts), "0", f"{limit:.3g}", note, WIDTH - 6, 16)


def alpha_by_depth(rows: Sequence[Row]) -> str:
    """Alpha over the layers in the order of the report, the phase as colour."""
    num_layers = len({row["name"] for row in rows})
    width, height, floor = 480, 230, 206
    step = (width - 44) / max(num_layers, 1)
    top, ticks = alpha_axis(rows)

    def y(alpha: float) -> float:
        return floor - (floor - 14) * (min(alpha, TOP_ALPHA) - 1) / (top - 1)

    parts = [_axis(y(alpha), width, text) for alpha, text in ticks]
    for row, depth in zip(rows, depths(rows), strict=True):
        x = 38 + step * (depth + 0.5)
        if not row["valid"]:
            parts.append(f'<path class="s" d="M{x:.1f},{floor}v-5"/>')
            continue
        phase = row["phase"] or "UNCLASSIFIED"
        name = escape(f"{label(row)}: α {row['alpha']:.2f} ± {row['sigma']:.2f}")
        # To be pointed at; of thousands of dots none can be.
        title = f"<title>{name}</title>" if len(rows) < MANY else ""
        parts.append(
            f'<circle class="{phase}" cx="{x:.1f}" cy="{y(row["alpha"]):.0f}" r="3.2">'
            f"{title}</circle>"
        )
    parts.append(f'<path class="a" d="M38,{floor}H{width}"/>')
    parts.append(f'<text x="38" y="{height - 6}">first layer</text>')
    parts.append(f'<text x="{width}" y="{height - 6}" text-anchor="end">last</text>')
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def alpha_histogram(rows: Sequence[Row]) -> str:
    """How many matrices have which alpha, the phase as colour."""
    width, height, floor = 480, 230, 206
    bottoms = np.zeros(ALPHA_BINS.size - 1)
    stacks = []
    for phase, (color, _) in PHASES.items():
        counts = alpha_counts(rows, phase)
        stacks.append((color, counts, bottoms.copy()))
        bottoms += counts
    scale = (floor - 16) / max(bottoms.max(), 1)
    step = (width - 44) / bottoms.size
    across = (width - 44) / (ALPHA_BINS[-1] - ALPHA_BINS[0])
    parts = [_axis(floor - scale * bottoms.max(), width, f"{bottoms.max():.0f}")]
    for color, counts, bottom in stacks:
        for i in np.flatnonzero(counts):
            parts.append(
                f'<rect x="{38 + step * i:.1f}" y="{floor - scale * (bottom[i] + counts[i]):.1f}" '
                f'width="{step - 1.5:.1f}" height="{scale * counts[i]:.1f}" fill="{color}"/>'
            )
    for alpha in range(1, int(TOP_ALPHA) + 1):
        parts.append(
            f'<text x="{38 + across * (alpha - 1):.0f}" y="{height - 8}" text-anchor="middle">'
            f"{alpha_tick(alpha)}</text>"
        )
    parts.append(f'<path class="a" d="M38,{floor}H{width}"/>')
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _axis(y: float, width: int, text: str) -> str:
    return (
        f'<path class="g" d="M38,{y:.0f}H{width}"/>'
        f'<text x="34" y="{y + 4:.0f}" text-anchor="end">{text}</text>'
    )


def _path(x: Array, y: Array, style: str) -> str:
    """A line through points: whole numbers, relative, what lies on a straight line left out."""
    points = np.stack([x, y], axis=1).round().astype(int)
    steps = np.diff(points, axis=0)
    kept = [tuple(points[0])]
    for dx, dy in steps[steps.any(axis=1)].tolist():
        last = kept[-1]
        # Bars of one height are one bar.
        if len(kept) > 1 and dy == last[1] == 0:
            kept[-1] = (last[0] + dx, 0)
        else:
            kept.append((dx, dy))
    start, *rest = (f"{dx}{dy if dy < 0 else f',{dy}'}" for dx, dy in kept)
    line = "".join(step if step[0] == "-" else f" {step}" for step in rest)
    return f'<path class="{style}" d="M{start}l{line.lstrip()}"/>'


def _figure(content: str, low: str, high: str, note: str, x: int, y: int) -> str:
    side = ' class="r"' if x > WIDTH / 2 else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{content}<text x="6" y="125">{low}</text>'
        f'<text class="r" x="{WIDTH - 6}" y="125">{high}</text>'
        f'<text{side} x="{x}" y="{y}">{escape(note)}</text></svg>'
    )
