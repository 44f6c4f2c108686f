"""Draws the figures of the pages, from matrices made up for them and from short trainings.

python -m docs.draw
python -m docs.draw caps controls
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import fitting
from docs import draw_estimators, draw_penalties, draw_runs
from fitting.palette import BARS, DARK, LAW, LIGHT, STYLE
from tests.planted_spectra import FAMILIES, eigenvalues, heavy_spectrum, noise, plant

FOLDER = Path(__file__).parent / "figures"
SHAPE = (1000, 400)


def bulk(axes: Axes, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """A Gaussian matrix and the law that its eigenvalues follow."""
    law = fitting.MarchenkoPastur(Q=shape[0] / shape[1])
    axes.hist(eigenvalues(noise(shape, rng)), bins=40, density=True, color=BARS)
    x = np.linspace(*law.edges, 2000)[1:]
    axes.plot(x, law.pdf(x), color=LAW)
    axes.set(title=f"{shape[0]} x {shape[1]}, Q = {law.Q:.3g}", xlabel="eigenvalue / (N variance)")
    axes.set_ylim(0, min(law.pdf(x).max() * 1.2, 2.2))


def draw_noise() -> Figure:
    """The bulk at three shapes, and a signal that leaves it."""
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    *bulks, spikes = figure.subplots(1, 4)
    for axes, shape in zip(bulks, ((800, 800), (800, 400), (4096, 384)), strict=True):
        bulk(axes, shape, rng)
    bulks[0].set_ylabel("density")

    rows, cols = 800, 400
    c = cols / rows
    strengths = np.linspace(0, 2, 21)
    u, v = np.ones(rows) / rows**0.5, np.ones(cols) / cols**0.5
    found = [
        eigenvalues(noise((rows, cols), rng) + strength * np.outer(u, v))[0]
        for strength in strengths
    ]
    theory = (1 + strengths[1:] ** 2) * (c + strengths[1:] ** 2) / strengths[1:] ** 2
    edge = (1 + c**0.5) ** 2
    theory = np.where(strengths[1:] > c**0.25, theory, edge)
    spikes.plot(strengths[1:], theory, color=LAW, label="spiked model")
    spikes.plot(strengths, found, **DARK | {"linestyle": ""}, markersize=4, label="largest found")
    spikes.axvline(c**0.25, color="0.6", linestyle=":", label=r"$\theta_c = Q^{-1/4}$")
    spikes.set(title="A signal in 800 x 400", xlabel="strength θ of the signal")
    spikes.legend()
    return figure


def draw_tails() -> Figure:
    """A power law and noise, each with the best power law that there is."""
    rng = np.random.default_rng(1)
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, 3),
        {
            "power law with α = 2.5": heavy_spectrum(SHAPE, rng),
            "noise and nine signals": eigenvalues(
                plant(noise(SHAPE, rng), 2.66 * rng.uniform(1.35, 4, 9), rng)
            ),
            "noise alone": eigenvalues(noise(SHAPE, rng)),
        }.items(),
        strict=True,
    ):
        fit = fitting.fit_power_law(values)
        p = fitting.goodness_of_fit(values, fit)
        phase = fitting.classify_phase(values, SHAPE).phase.name
        values = np.sort(values)
        axes.loglog(values, 1 - np.arange(values.size) / values.size, ".", color="#7f8da0")
        x = np.geomspace(fit.xmin, values[-1], 50)
        share = fit.num_tail / values.size
        axes.loglog(x, share * (x / fit.xmin) ** (1 - fit.alpha), "--", color="black")
        axes.set(title=f"{title}: {phase}", xlabel="eigenvalue")
        axes.xaxis.set_minor_formatter(NullFormatter())
        text = f"α = {fit.alpha:.2f} ± {fit.sigma:.2f}\n{fit.num_tail} in the tail\np = {p:.2f}"
        axes.text(0.04, 0.06, text, transform=axes.transAxes)
    figure.axes[0].set_ylabel("share at or above")
    return figure


def draw_phases() -> Figure:
    """The planted family of each phase, with its bulk and what classify_phase says."""
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    families = ("random", "bleeding", "bulk+spikes", "bulk-decay", "heavy (a)", "collapse (soft)")
    for axes, family in zip(figure.subplots(2, 3).flat, families, strict=True):
        values = FAMILIES[family][1](SHAPE, rng)
        result = fitting.classify_phase(values, SHAPE)
        law = result.marchenko_pastur
        edges = np.geomspace(values.min(), values.max() * 1.1, 50)
        heights, _ = np.histogram(values, edges)
        axes.stairs(heights / values.size / np.diff(edges), edges, fill=True, color=BARS)
        x = np.geomspace(edges[0], edges[-1], 1000)
        density = law.density(x)
        axes.plot(x[density > 0], density[density > 0], color=LAW)
        if law.lambda_plus < edges[-1]:
            axes.axvline(law.lambda_plus, color=LIGHT["color"], linestyle=":")
        axes.set(xscale="log", yscale="log", title=result.phase.name)
        axes.xaxis.set_minor_formatter(NullFormatter())
        note = f"MP soft rank {result.mp_soft_rank:.2f}"
        axes.text(0.97, 0.96, note, transform=axes.transAxes, ha="right", va="top")
    for axes in figure.axes[3:]:
        axes.set_xlabel("eigenvalue")
    for axes in figure.axes[::3]:
        axes.set_ylabel("density")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "noise": draw_noise,
    "tails": draw_tails,
    "phases": draw_phases,
    **draw_estimators.FIGURES,
    **draw_penalties.FIGURES,
    **draw_runs.FIGURES,
}


def main() -> None:
    """Writes the figures beside the pages: all, or those that are named."""
    for name in sys.argv[1:] or FIGURES:
        path = FOLDER / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(STYLE | {"savefig.dpi": 110}):
            FIGURES[name]().savefig(path)


if __name__ == "__main__":
    main()
