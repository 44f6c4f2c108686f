"""The figures of the penalties' pages: what descending one of them alone does to a spectrum."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import spectral_reg as sr
from docs.draw_forces import bars, force
from fitting.palette import DARK, LIGHT
from tests.planted_spectra import Array, bulk_spikes

SHAPE = (384, 192)
NUM_STEPS = 200
# How far descent goes in all, as a share of the norm of the matrix.
PATH = 0.15
BEFORE = {"color": "0.8", "linewidth": 4}
BROAD = sr.spectral_metric(sr.smooth_hill(low=0.01))
RANKS = np.arange(1, min(SHAPE) + 1)


@functools.cache
def trained_like() -> Array:
    """Eigenvalues of noise with nine signals."""
    return bulk_spikes(SHAPE, np.random.default_rng(0))


def measure(metric: sr.SpectralMetric, spectrum: Array) -> float:
    """A metric of a spectrum."""
    return float(metric.of_eigenvalues(jnp.asarray(spectrum, jnp.float32)))


def descend(
    penalty: sr.SpectralMetric,
    spectrum: Array,
    *,
    sign: int = 1,
    first: float | None = None,
) -> Array:
    """The spectrum before and after each step of gradient descent on W.

    Args:
        penalty: What to lower.
        spectrum: Eigenvalues ``[M]``, descending.
        sign: -1 raises it instead.
        first: Length of the first step, as a share of the norm of W: the rate is held from there
            on. If None, all steps are of one length, and `PATH` together.

    Returns:
        Eigenvalues ``[NUM_STEPS + 1, M]``.
    """
    # The gradient of a function of the eigenvalues leaves the singular vectors as they are, so
    # descent on W is descent on its singular values.
    start = jnp.sqrt(jnp.asarray(spectrum, jnp.float32))
    gradient = jax.grad(lambda sigma: sign * penalty.of_eigenvalues(jnp.sort(sigma**2)[::-1]))
    share = PATH / NUM_STEPS if first is None else first
    length = share * jnp.linalg.norm(start)
    rate = length / jnp.linalg.norm(gradient(start))

    def step(sigma: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        pull = gradient(sigma)
        sigma -= pull * (rate if first is not None else length / jnp.linalg.norm(pull))
        return sigma, sigma

    _, path = jax.lax.scan(step, start, length=NUM_STEPS)
    return np.sort(np.vstack([start, path]).astype(np.float64) ** 2)[:, ::-1]


def spectra(axes: Axes, before: Array, after: dict[str, Array]) -> None:
    """A spectrum before descent, and after one or two."""
    axes.plot(RANKS, before, label="before", **BEFORE)
    for (label, values), style in zip(after.items(), (DARK, LIGHT), strict=False):
        axes.plot(RANKS, values, label=label, markersize=3, **style)
    axes.set(xscale="log", xlabel="rank of the eigenvalue", yscale="log", ylabel="eigenvalue")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower left")


def forces(axes: Axes, metric: sr.SpectralMetric, spectrum: Array) -> None:
    """What lowering a metric asks of each eigenvalue."""
    pull = force(metric.of_eigenvalues, spectrum)
    largest = np.abs(pull).max()
    axes.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
    bars(axes, pull / largest)
    axes.set(xlabel="rank of the eigenvalue", ylim=(-3, 3), ylabel="force (largest = 1)")
    axes.set_yticks(
        [-1, -0.1, -0.01, 0, 0.01, 0.1, 1], ["-1", "-.1", "-.01", "0", ".01", ".1", "1"]
    )
    axes.set_title(f"force to lower it, largest {largest:.2g}")


def effect(panels: Any, name: str, metric: sr.SpectralMetric, spectrum: Array) -> None:
    """A metric lowered and raised, and its force, on two panels."""
    lowered, raised = (descend(metric, spectrum, sign=sign)[-1] for sign in (1, -1))
    after = {
        f"lowered, to {measure(metric, lowered):.3g}": lowered,
        f"raised, to {measure(metric, raised):.3g}": raised,
    }
    spectra(panels[0], spectrum, after)
    panels[0].set_title(f"{name} = {measure(metric, spectrum):.3g}")
    forces(panels[1], metric, spectrum)


def new_figure(rows: int = 1, columns: int = 2) -> tuple[Figure, Any]:
    """A figure and its panels."""
    figure = Figure(figsize=(0.6 + 3.3 * columns, 2.9 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns)


def draw_plain(name: str) -> Figure:
    """One metric lowered and raised, and its force."""
    figure, panels = new_figure()
    effect(panels, name, getattr(sr, name), trained_like())
    return figure


def draw_ratio() -> Figure:
    """The ratio of logarithms, and its pole."""
    figure, panels = new_figure(columns=3)
    before = trained_like()
    effect(panels, "log_stable_rank_ratio", sr.log_stable_rank_ratio, before)
    top = np.geomspace(0.05, 20, 400)
    scaled = [before * (value / before[0]) for value in top]
    ratio = np.array([measure(sr.log_stable_rank_ratio, spectrum) for spectrum in scaled])
    # No line through the pole.
    ratio[np.argmin(np.abs(np.log(top)))] = np.nan
    panels[2].plot(top, ratio, color=DARK["color"])
    log_rank = measure(sr.log_stable_rank, before)
    panels[2].axhline(log_rank, color=LIGHT["color"], linestyle="--")
    panels[2].axvline(1, color="0.6", linestyle=":")
    panels[2].set(xscale="log", ylim=(-22, 22), ylabel="value", title="as W is scaled")
    panels[2].set_xlabel(r"$\lambda_{max}$")
    panels[2].text(1.2, -6, "log_stable_rank_ratio", color=DARK["color"], fontsize=8)
    panels[2].text(0.05, log_rank + 1, "log_stable_rank", color=LIGHT["color"], fontsize=8)
    return figure


def draw_norms() -> Figure:
    """The spectral norm, and how the force of its three forms depends on it."""
    figure, panels = new_figure(columns=3)
    effect(panels, "spectral_norm", sr.spectral_norm, trained_like())
    norm = np.linspace(0.2, 3, 100)
    panels[2].plot(norm, 2 * norm, color=LIGHT["color"], linestyle="--", label="lambda_max")
    panels[2].plot(norm, np.ones_like(norm), color=DARK["color"], label="spectral_norm")
    panels[2].plot(norm, 1 / norm, color="#5a9e6f", linestyle=":", label="log_spectral_norm")
    panels[2].set(xlabel=r"spectral norm $\sigma$", ylabel=r"∂ penalty / ∂$\sigma$", ylim=(0, 8))
    panels[2].set_title("its three forms")
    panels[2].legend(loc="upper left")
    return figure


def draw_power_law() -> Figure:
    """The tail on its way to two power laws; and where descent stops with a band, and without."""
    figure, panels = new_figure(columns=3)
    before = trained_like()
    laws = {f"alpha = {alpha:g}": sr.power_law_distance(alpha) for alpha in (2.0, 3.0)}
    paths = {label: descend(metric, before, first=0.02) for label, metric in laws.items()}
    spectra(panels[0], before, {label: path[-1] for label, path in paths.items()})
    panels[0].set_title("the tail becomes a power law")
    forces(panels[1], laws["alpha = 3"], before)
    banded = descend(sr.power_law_distance(3.0, band=1.0), before, first=0.02)
    after = {"without a band": paths["alpha = 3"][-1], "band=1": banded[-1]}
    for (label, values), style in zip(after.items(), (DARK, LIGHT), strict=True):
        residuals = np.log(values) + np.log(RANKS - 0.5) / 2
        half = residuals[: RANKS.size // 2]
        panels[2].plot(RANKS[: half.size], half - half.mean(), label=label, markersize=3, **style)
    panels[2].set(xscale="log", xlabel="rank of the eigenvalue", ylabel="distance in ln l")
    panels[2].set_title("from the law of alpha = 3")
    panels[2].legend()
    return figure


def draw_alpha() -> Figure:
    """Alpha by the default estimator, and by one whose smallest tails are smaller."""
    figure, panels = new_figure(rows=2)
    effect(panels[0], "alpha", sr.alpha, trained_like())
    effect(panels[1], "alpha, smooth_hill(low=0.01),", BROAD, trained_like())
    return figure


def draw_alpha_hat() -> Figure:
    """Alpha times the logarithm of the top, where that is positive and where it is negative."""
    figure, panels = new_figure(rows=2)
    for row, scale in zip(panels, (1, 1e-2), strict=True):
        spectrum = scale * trained_like()
        effect(row, rf"$\lambda_{{max}}$ = {spectrum[0]:.2g}, alpha_hat", sr.alpha_hat, spectrum)
    return figure


def draw_target() -> Figure:
    """Alpha steered to a value from above and from below."""
    figure, panels = new_figure()
    before = trained_like()
    paths = {
        value: descend(sr.target(sr.alpha, value), before, first=0.002) for value in (2.5, 5.0)
    }
    after = {f"target {value:g}": path[-1] for value, path in paths.items()}
    spectra(panels[0], before, after)
    panels[0].set_title(f"alpha = {measure(sr.alpha, before):.3g}")
    for (value, path), style in zip(paths.items(), (DARK, LIGHT), strict=True):
        alphas = sr.alpha.of_eigenvalues(jnp.asarray(path, jnp.float32))
        panels[1].plot(alphas, markevery=20, markersize=4, **style)
        panels[1].axhline(value, color="0.6", linestyle=":")
    panels[1].set(xlabel="step of gradient descent", ylabel="alpha", title="the way there")
    return figure


def draw_hinge() -> Figure:
    """The spectral norm with a bound and without."""
    figure, panels = new_figure()
    before, bound = trained_like(), 2.8
    paths = {
        "spectral_norm": descend(sr.spectral_norm, before),
        f"hinge, above={bound}": descend(
            sr.hinge(sr.spectral_norm, above=bound), before, first=PATH / NUM_STEPS
        ),
    }
    spectra(panels[0], before, {name: path[-1] for name, path in paths.items()})
    panels[0].set_title(f"spectral_norm = {measure(sr.spectral_norm, before):.3g}")
    for path, style in zip(paths.values(), (DARK, LIGHT), strict=True):
        panels[1].plot(np.sqrt(path[:, 0]), markevery=20, markersize=4, **style)
    panels[1].axhline(bound, color="0.6", linestyle=":")
    panels[1].set(xlabel="step of gradient descent", ylabel="spectral norm")
    panels[1].set_title("with a bound, and without")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "penalties/stable_rank": functools.partial(draw_plain, "log_stable_rank"),
    "penalties/log_stable_rank_ratio": draw_ratio,
    "penalties/spectral_norm": draw_norms,
    "penalties/log_frobenius_norm": functools.partial(draw_plain, "log_frobenius_norm"),
    "penalties/matrix_entropy": functools.partial(draw_plain, "matrix_entropy"),
    "penalties/power_law_distance": draw_power_law,
    "penalties/nuclear_norm": functools.partial(draw_plain, "nuclear_norm"),
    "penalties/orthogonality": functools.partial(draw_plain, "orthogonality"),
    "penalties/alpha": draw_alpha,
    "penalties/alpha_hat": draw_alpha_hat,
    "penalties/target": draw_target,
    "penalties/hinge": draw_hinge,
}
