"""The figures of the estimators' pages: what each weighs, what it gives, how it moves."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import fitting
import spectral_reg as sr
from docs.draw_forces import bars, force
from fitting.palette import DARK, LIGHT
from tests.planted_spectra import Array, eigenvalues, gaussian_spectrum, noise

ESTIMATORS = {
    "hill()": sr.hill(),
    "smooth_hill()": sr.smooth_hill(),
    "smooth_hill(low=0.01)": sr.smooth_hill(low=0.01),
    "rank_regression()": sr.rank_regression(),
    "soft_csn()": sr.soft_csn(),
    "frozen_csn()": sr.frozen_csn(),
}
SHAPE = (768, 384)
EXPONENTS = np.arange(1.5, 6.1, 0.5)
NUM_DRAWS = 20
# Of the eigenvalues, where only the tail is a power law.
TAIL = 0.2
# Noise on the weights, relative to them, in steps of 0.01 %.
NOISES = np.linspace(0, 0.01, 101)


@functools.cache
def student() -> Array:
    """Eigenvalues of a matrix of Student-t(3) entries."""
    return eigenvalues(np.random.default_rng(0).standard_t(3, SHAPE))


def forces(axes: Axes, estimator: Callable[[jax.Array], jax.Array]) -> None:
    """What lowering alpha asks of every eigenvalue of one spectrum."""
    axes.set_yscale("symlog", linthresh=1e-3)
    bars(axes, force(estimator, student()))
    axes.set(xlabel="rank", ylim=(-300, 300), yticks=(-100, -1, -0.01, 0, 0.01, 1, 100))


def pure(exponent: float, rng: np.random.Generator) -> Array:
    """A power law from end to end."""
    return np.sort((1 - rng.uniform(size=SHAPE[1])) ** (-1 / (exponent - 1)))[::-1]


def on_a_bulk(exponent: float, rng: np.random.Generator) -> Array:
    """A power law on the edge of a bulk of noise."""
    size = round(TAIL * SHAPE[1])
    tail = (1 - rng.uniform(size=size)) ** (-1 / (exponent - 1))
    bulk = gaussian_spectrum((SHAPE[0], SHAPE[1] - size), rng)
    return np.sort(np.concatenate([tail, bulk / bulk.max()]))[::-1]


@functools.cache
def draws(spectrum: Callable[[float, np.random.Generator], Array]) -> tuple[Array, Array]:
    """Spectra ``[exponents, draws, M]`` and the exact fit of each."""
    rng = np.random.default_rng(0)
    found = np.stack([[spectrum(a, rng) for _ in range(NUM_DRAWS)] for a in EXPONENTS])
    exact = [[fitting.fit_power_law(one).alpha for one in row] for row in found]
    return found, np.array(exact)


def values(
    axes: Axes,
    estimator: Callable[[jax.Array], jax.Array],
    spectrum: Callable[[float, np.random.Generator], Array],
) -> None:
    """Mean and spread of an estimator on known power laws, beside the exact fit's."""
    found, exact = draws(spectrum)
    given = np.asarray(jax.lax.map(estimator, jnp.asarray(found, jnp.float32)))
    axes.plot(EXPONENTS[[0, -1]], EXPONENTS[[0, -1]], color="0.6", linewidth=0.8)
    for result, style, shift in ((exact, LIGHT, -0.05), (given, DARK, 0.05)):
        style = style | {"linestyle": "", "markersize": 4, "capsize": 2}
        axes.errorbar(EXPONENTS + shift, result.mean(axis=1), result.std(axis=1), **style)
    note = f"at {EXPONENTS[-1]:g}: {given[-1].mean():.2f}"
    axes.text(0.97, 0.04, note, transform=axes.transAxes, ha="right")
    axes.set(xlabel="true alpha", ylim=(1, 9))


@functools.cache
def drifting() -> tuple[Array, Array]:
    """Spectra of one Gaussian matrix under growing noise, and the exact fit of each.

    The matrix is chosen: on most the exact fit moves less.
    """
    rng = np.random.default_rng(0)
    start, drift = rng.standard_normal((2, 384, 192))
    found = np.stack([eigenvalues(start + size * drift) for size in NOISES])
    return found, np.array([fitting.fit_power_law(one).alpha for one in found])


def moves(axes: Axes, estimator: Callable[[jax.Array], jax.Array]) -> None:
    """The estimator, and the exact fit, while noise grows on one matrix."""
    found, exact = drifting()
    given = np.asarray(jax.lax.map(estimator, jnp.asarray(found, jnp.float32)))
    for result, style in ((exact, LIGHT), (given, DARK)):
        axes.plot(100 * NOISES, result, **style | {"marker": ""})
    axes.text(0.97, 0.04, f"moves by {np.ptp(given):.2g}", transform=axes.transAxes, ha="right")
    axes.set(xlabel="noise on W, %", ylim=(1, 12))


def draw_estimators(*names: str) -> Figure:
    """What estimators weigh, what they give on known tails, and how they move; a row each."""
    figure = Figure(figsize=(9.6, 2.6 * len(names)), layout="constrained")
    for name, row in zip(names, figure.subplots(len(names), 4, squeeze=False), strict=True):
        estimator = ESTIMATORS[name]
        pull, whole, bulk, noisy = row
        forces(pull, estimator)
        pull.set(title="force to lower it", ylabel="-∂α / ∂ ln λ")
        values(whole, estimator, pure)
        whole.set(title="power law", ylabel="alpha")
        whole.legend(whole.containers, ["exact fit (CSN)", name], loc="upper left", fontsize=8)
        values(bulk, estimator, on_a_bulk)
        bulk.set(title="power law on a bulk")
        moves(noisy, estimator)
        noisy.set(title="while noise grows")
    return figure


def draw_overview() -> Figure:
    """What lowering alpha by each estimator asks of every eigenvalue of one spectrum."""
    figure = Figure(figsize=(11.2, 2.6), layout="constrained")
    panels = figure.subplots(1, len(ESTIMATORS), sharex=True, sharey=True)
    for axes, (name, estimator) in zip(panels, ESTIMATORS.items(), strict=True):
        forces(axes, estimator)
        axes.set_title(name)
    panels[0].set_ylabel("-∂α / ∂ ln λ")
    return figure


def draw_sampled() -> Figure:
    """Alpha of whole matrices and of blocks of them, over their shapes."""
    cols, ratios, size = 256, np.array([1, 1.5, 2, 3, 4, 6, 8]), 64
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    entries = {
        "Gaussian entries": lambda shape: noise(shape, rng),
        "Student-t(2.5) entries": lambda shape: rng.standard_t(2.5, shape),
    }
    for axes, (title, draw) in zip(panels, entries.items(), strict=True):
        found = []
        for ratio in ratios:
            W = jnp.asarray(draw((int(ratio * cols), cols)), jnp.float32)
            options = {"key": jax.random.key(0), "num_blocks": 16, "size": size}
            square = sr.sampled(sr.alpha, **options)
            alike = sr.sampled(sr.alpha, aspect=float(ratio), **options)
            found.append([float(metric(W)) for metric in (sr.alpha, square, alike)])
        labels = ("whole matrix", "square blocks", "blocks of its aspect")
        styles = (DARK, LIGHT, {"color": "#5a9e6f", "marker": "^", "linestyle": ":"})
        for label, style, line in zip(labels, styles, np.transpose(found), strict=True):
            axes.plot(ratios, line, label=label, markersize=5, **style)
        axes.set(xlabel="Q = rows / columns", title=title, ylim=(2, 8))
    panels[0].set_ylabel("alpha")
    panels[0].legend()
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "estimators/overview": draw_overview,
    "estimators/hill": functools.partial(draw_estimators, "hill()"),
    "estimators/smooth_hill": functools.partial(
        draw_estimators, "smooth_hill()", "smooth_hill(low=0.01)"
    ),
    "estimators/rank_regression": functools.partial(draw_estimators, "rank_regression()"),
    "estimators/soft_csn": functools.partial(draw_estimators, "soft_csn()"),
    "estimators/frozen_csn": functools.partial(draw_estimators, "frozen_csn()"),
    "estimators/sampled": draw_sampled,
}
