"""Small drawings of spectra for a page: a few hundred bytes each, with no library behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._figures import PHASES, TOP_ALPHA
from .._spectrum_figures import Row, bulk_end, bulk_law, label

Array = NDArray[np.float64]
WIDTH, HEIGHT, FLOOR = 240, 130, 108
DECADES = 5.0
NUM_POINTS, NUM_BINS = 16, 24
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
        note = f"α {row['alpha']:.2f} ± {row['sigma']:.2f}, tail of {row['num_tail']}"
    return _figure("".join(parts), f"{10**low:.2g}", f"{10**top:.3g}", note, 8, FLOOR - 8)


def bulk(row: Row, eigenvalues: Array) -> str:
    """Histogram on linear axes, with the Marchenko-Pastur law, its edge and the spikes."""
    if not (np.isfinite(eigenvalues).all() and eigenvalues.any()):
        return ""
    law = bulk_law(row, eigenvalues)
    limit = bulk_end(eigenvalues, law)
    counts, edges = np.histogram(eigenvalues, NUM_BINS, (0, limit * 1.02))
    density = counts / eigenvalues.size / np.diff(edges)

    def x(value: Any) -> Array:
        return np.asarray(6 + (WIDTH - 12) * np.asarray(value) / edges[-1])

    def y(height: Any) -> Array:
        return FLOOR - (FLOOR - 12) * np.minimum(np.asarray(height) / density.max(), 1.06)

    # Each bar's top, then the last one's right side.
    lefts, tops = x(edges[:-1]), y(density)
    corners_x = np.append(np.repeat(lefts, 2), [x(edges[-1])] * 2)
    corners_y = np.concatenate([[FLOOR], np.repeat(tops, 2), [FLOOR]])
    parts = [_path(corners_x, corners_y, "b")]
    note = "no Marchenko-Pastur bulk"
    if law:
        low, high = law.lambda_minus, min(law.lambda_plus, limit)
        # Denser at the lower edge, where the law is steep.
        grid = low + (high - low) * np.linspace(0, 1, 17)[1:] ** 2
        parts.append(_path(x(grid), y(law.density(grid)), "f"))
        parts.append(f'<path class="x" d="M{x(law.lambda_plus):.0f},6V{FLOOR}"/>')
        spikes = [spike for spike in law.spikes if spike <= limit]
        ticks = "".join(f"M{x(spike):.0f},{FLOOR - 6}v6" for spike in spikes[:60])
        parts += [f'<path class="s" d="{ticks}"/>'] if ticks else []
        plural = "" if law.num_spikes == 1 else "s"
        note = f"λ+ {law.lambda_plus:.3g}, {law.num_spikes} spike{plural}"
    if beyond := int((eigenvalues > edges[-1]).sum()):
        note += f"; {beyond} beyond, to {eigenvalues.max():.3g}"
    return _figure("".join(parts), "0", f"{limit:.3g}", note, WIDTH - 6, 16)


def alpha_by_depth(rows: Sequence[Row]) -> str:
    """Alpha over the layers in the order of the report, the phase as colour."""
    names = {name: i for i, name in enumerate(dict.fromkeys(row["name"] for row in rows))}
    width, height, floor = 480, 230, 206
    step = (width - 44) / max(len(names), 1)

    highest = max((row["alpha"] for row in rows if row["valid"]), default=2.0)
    top = float(np.clip(highest, 6, TOP_ALPHA))

    def y(alpha: float) -> float:
        return floor - (floor - 14) * (min(alpha, TOP_ALPHA) - 1) / (top - 1)

    parts = [_axis(y(mark), width, f"{mark}") for mark in (2, 4, 6, 8) if mark <= top]
    parts += [_axis(y(10), width, "≥ 10")] if top == TOP_ALPHA else []
    seen: dict[str, int] = {}
    num_in = Counter(row["name"] for row in rows)
    for row in rows:
        place = seen[row["name"]] = seen.get(row["name"], 0) + 1
        x = 38 + step * (names[row["name"]] + 0.15 + 0.7 * (place - 0.5) / num_in[row["name"]])
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
    edges = np.arange(1, TOP_ALPHA + 0.6, 0.5)
    bottoms = np.zeros(edges.size - 1)
    stacks = []
    for phase, (color, _) in PHASES.items():
        alphas = [row["alpha"] for row in rows if row["valid"] and row["phase"] == phase]
        counts, _ = np.histogram(np.minimum(alphas, TOP_ALPHA + 0.1), edges)
        stacks.append((color, counts, bottoms.copy()))
        bottoms += counts
    scale = (floor - 16) / max(bottoms.max(), 1)
    step = (width - 44) / (edges.size - 1)
    parts = [_axis(floor - scale * bottoms.max(), width, f"{bottoms.max():.0f}")]
    for color, counts, bottom in stacks:
        for i in np.flatnonzero(counts):
            parts.append(
                f'<rect x="{38 + step * i:.1f}" y="{floor - scale * (bottom[i] + counts[i]):.1f}" '
                f'width="{step - 1.5:.1f}" height="{scale * counts[i]:.1f}" fill="{color}"/>'
            )
    for mark in range(1, 11):
        text = f"{mark}" if mark < 10 else "≥ 10"
        parts.append(
            f'<text x="{38 + step * 2 * (mark - 1):.0f}" y="{height - 8}" text-anchor="middle">'
            f"{text}</text>"
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
