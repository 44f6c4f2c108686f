"""The figures of what is watched and steered, from trainings of the small language model.

They take minutes each: `python -m docs.draw watching` draws one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import fitting
import spectral_reg as sr
from examples.training.language_model import batch_of, initial, make_step, texts
from fitting.palette import DARK, LIGHT, PHASES, SERIES

BLOCKS = sr.by_path("blocks/*")
KINDS = ("query", "key", "value", "out", "up", "down")
TOP_ALPHA = 10.0
BOUND = 3.0


def train(
    optimizer: optax.GradientTransformationExtraArgs, num_steps: int
) -> Iterator[tuple[int, dict, Any]]:
    """The number of steps done, the parameters and the optimizer's state, from the start on."""
    graph, params = initial(num_blocks=2)
    step = jax.jit(make_step(graph, optimizer))
    state, text, rng = optimizer.init(params), texts()[0], np.random.default_rng(0)
    yield 0, params, state
    for number in range(1, num_steps + 1):
        params, state, _ = step(params, state, batch_of(text, rng))
        yield number, params, state


def kind_of(name: str) -> dict[str, Any]:
    """The colour and line of a matrix of a block, by what it does there."""
    style = SERIES[KINDS.index(name.split("/")[2])]
    return {key: style[key] for key in ("color", "linestyle")}


def legend_of_kinds(figure: Figure, axes: Axes) -> None:
    """Names them above the panels."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    names = sorted(found, key=(*KINDS, "mean").index)
    figure.legend([found[name] for name in names], names, loc="outside upper center", ncols=7)


def draw_watching() -> Figure:
    """Alpha, stable rank and phase of every matrix of the blocks over training."""
    with fitting.watch_phases(layers=["blocks/*"]) as watch:
        for number, params, _ in train(optax.adamw(3e-3), 600):
            if number % 30 == 0:
                watch(number, params, wait=True)
        series = watch.series()
    figure = Figure(figsize=(10.4, 3.4), layout="constrained")
    alphas, ranks, phases = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    groups = [(name, table) for (name, _), table in series.matrices()]
    for name, table in groups:
        options = kind_of(name) | {"linewidth": 1.2, "label": name.split("/")[2]}
        alphas.plot(table["step"], np.minimum(table["alpha"], TOP_ALPHA), **options)
        ranks.plot(table["step"], table["stable_rank"], **options)
    alphas.set(title="alpha", xlabel="step", ylim=(1, None))
    ranks.set(title="stable rank", xlabel="step", ylim=(0, None))
    names = list(PHASES)
    grid = np.array([[names.index(phase) for phase in table["phase"]] for _, table in groups])
    colors = ListedColormap([color for color, _ in PHASES.values()])
    half = (series.steps[1] - series.steps[0]) / 2
    phases.imshow(
        grid,
        aspect="auto",
        interpolation="nearest",
        cmap=colors,
        vmin=0,
        vmax=len(names) - 1,
        extent=(series.steps[0] - half, series.steps[-1] + half, len(groups) - 0.5, -0.5),
    )
    short = [name.removeprefix("blocks/").removesuffix("/kernel") for name, _ in groups]
    phases.set_yticks(range(len(groups)), short, fontsize=7)
    phases.set(title="phase")
    used = [name for number, name in enumerate(names) if (grid == number).any()]
    handles = [Patch(color=PHASES[name][0], label=name) for name in used]
    phases.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.4, -0.2), fontsize=7, ncols=3
    )
    legend_of_kinds(figure, alphas)
    return figure


def draw_layerwise() -> Figure:
    """The factor in force of every matrix of the blocks, by two published maps."""
    maps = {
        "TempBalance, every 100 steps": sr.scale_by_layer_spectra(
            sr.linear_ratio(0.5, 1.5, keep_mean=False), every=100, mask=BLOCKS
        ),
        "LLR, every 100 steps over 50": sr.scale_by_layer_spectra(
            sr.linear_ratio(1, 5, keep_mean=False), every=100, transition=50, mask=BLOCKS
        ),
    }
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    for axes, (title, scale) in zip(figure.subplots(1, 2), maps.items(), strict=True):
        factors: dict[str, list[float]] = {}
        transition = 50 if title.startswith("LLR") else 1
        for number, _, state in train(optax.chain(optax.adamw(1e-3), scale), 400):
            if number == 0:
                continue
            share = min(((number - 1) % 100 + 1) / transition, 1)
            for name, to in state[1].factors.items():
                start = state[1].previous[name]
                factors.setdefault(name, []).append(float(start + share * (to - start)))
        for name, line in factors.items():
            label = name.split("/")[2]
            axes.plot(line, **kind_of(name), linewidth=1.2, label=label)
        mean = np.mean([*factors.values()], axis=0)
        axes.plot(mean, color="black", linewidth=2.5, label="mean")
        axes.set(title=title, xlabel="step")
    figure.axes[0].set_ylabel("factor of the learning rate")
    legend_of_kinds(figure, figure.axes[0])
    return figure


def largest(params: dict) -> float:
    """The largest singular value of all matrices of the blocks."""
    return max(float(norm) for norm in sr.layer_norms(params, "spectral", mask=BLOCKS).values())


def draw_caps() -> Figure:
    """The largest singular value of Muon's steps, without a bound and with three."""
    bounded = {
        "no bound": [],
        "cap_spectral_norm": [sr.cap_spectral_norm(BOUND, mask=BLOCKS)],
        "cap_spectral_norm, soft": [sr.cap_spectral_norm(BOUND, soft=True, mask=BLOCKS)],
        "hinge, strength 0.1": [],
    }
    force = sr.add_spectral_penalty(
        sr.hinge(sr.spectral_norm, above=BOUND), 0.1, tracking="warm", mask=BLOCKS
    )
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    whole, near = figure.subplots(1, 2)
    for (name, last), style in zip(bounded.items(), SERIES, strict=False):
        first = [force] if name.startswith("hinge") else []
        steps, tops = [], []
        for number, params, _ in train(optax.chain(*first, optax.contrib.muon(2e-2), *last), 1000):
            if number % 10 == 0:
                steps.append(number)
                tops.append(largest(params))
        for axes in (whole, near):
            options = {key: style[key] for key in ("color", "linestyle", "marker")}
            axes.plot(steps, tops, label=name, markevery=20, markersize=4, **options)
    for axes in (whole, near):
        axes.axhline(BOUND, color="0.6", linestyle=":")
        axes.set_xlabel("step")
    whole.set(title="largest singular value", ylim=(0, None))
    near.set(title="the same, near the bound", ylim=(0.98 * BOUND, 1.02 * BOUND))
    whole.legend(loc="upper left")
    return figure


def draw_controls() -> Figure:
    """Norms and stable ranks of a penalized run, of its norm-matched control, and of neither."""
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 0.1, tracking="warm", mask=BLOCKS)
    recorded: list[dict[str, jax.Array]] = []
    runs = {
        "plain": lambda: optax.adamw(1e-3),
        "penalized": lambda: optax.chain(penalty, optax.adamw(1e-3)),
        "norms of the penalized run": lambda: optax.chain(
            optax.adamw(1e-3),
            sr.hold_norms(
                norms=jax.tree.map(lambda *norms: jnp.stack(norms), *recorded), mask=BLOCKS
            ),
        ),
    }
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    styles = ({"color": "0.5"}, DARK, LIGHT)
    for (name, optimizer), style in zip(runs.items(), styles, strict=True):
        steps, sizes, ranks = [], [], []
        for number, params, _ in train(optimizer(), 400):
            norms = sr.layer_norms(params, mask=BLOCKS)
            if name == "penalized" and number:
                recorded.append(norms)
            if number % 10 == 0:
                spectra = sr.layer_spectra(params, mask=BLOCKS).values()
                steps.append(number)
                sizes.append(np.mean([*map(float, norms.values())]))
                ranks.append(np.mean([float(values.sum() / values.max()) for values in spectra]))
        for axes, line in zip(panels, (sizes, ranks), strict=True):
            axes.plot(steps, line, label=name, markevery=5, markersize=4, **style)
    for axes, title in zip(panels, ("Frobenius norm", "stable rank"), strict=True):
        axes.set(title=f"{title}, mean of the matrices", xlabel="step")
    panels[0].legend()
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "watching": draw_watching,
    "layerwise": draw_layerwise,
    "caps": draw_caps,
    "controls": draw_controls,
}
