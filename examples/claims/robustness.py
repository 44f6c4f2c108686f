"""How well images are told apart after small changes made to mislead the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import spectral_reg as sr
from examples.claims import images, noise
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Measures, Program, Task
from examples.claims.optimizers import adamw, l2, penalty

# Of the change, in the Euclidean norm of pixels from 0 to 1.
RADIUS = 1.5
NUM_STEPS = 20
NUM_ATTACKED = 1000
BOUNDS = (1.0, 2.0)


def attacked(params: images.Params, pixels: jax.Array, labels: jax.Array) -> jax.Array:
    """Images `[n, pixels]` after projected gradient ascent of their loss, within the radius."""

    def loss(change: jax.Array) -> jax.Array:
        return len(labels) * images.cross_entropy(params, (pixels + change, labels))

    def step(change: jax.Array, _: None) -> tuple[jax.Array, None]:
        gradient = jax.grad(loss)(change)
        change = change + 2.5 * RADIUS / NUM_STEPS * gradient / _norms(gradient)
        change = change * jnp.minimum(1, RADIUS / _norms(change))
        return jnp.clip(pixels + change, 0, 1) - pixels, None

    change, _ = jax.lax.scan(step, jnp.zeros_like(pixels), length=NUM_STEPS)
    return pixels + change


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _judged(data: Any, params: images.Params) -> Measures:
    measures = images.held_out_accuracies(data, params)
    for split in ("validation", "test"):
        pixels = images.scaled(data[f"{split}_images"][:NUM_ATTACKED])
        labels = data[f"{split}_labels"][:NUM_ATTACKED]
        logits = images.logits_of(params, attacked(params, pixels, labels))
        right = jnp.argmax(logits, -1) == labels
        measures[f"{split} attacked"] = jnp.mean(right.astype(jnp.float32))
    return measures


def _make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    return noise.make_task({**options, "judged": _judged}, folder)


def _arms() -> dict[str, Arm]:
    arms = {
        "adam": Arm(Program(adamw()), noise.RATES, text="Adam"),
        "l2": Arm(Program(adamw(before=l2)), noise.grid(1e-4, 1e-3, 1e-5, 1e-2), text="L2"),
    }
    grid = noise.grid(1e-2, 1e-1, 1e-3, 1.0)
    for bound in BOUNDS:
        metric = sr.hinge(sr.spectral_norm, above=bound)
        before = penalty(metric, tracking="warm", mask=sr.by_path("fc*/kernel"))
        name = f"cap {bound:g}"
        controls = ("adam", "l2", f"norms of {name}")
        text = f"largest singular values of at most {bound:g} asked for"
        arms[name] = Arm(Program(adamw(before=before)), grid, "", controls, text)
        program = Program(adamw(), norms_of=arms[name].program.optimizer)
        arms[f"norms of {name}"] = Arm(program, tuned_as=name, text=f"Adam at the norms of {name}")
    return arms


CLAIM = Claim(
    title="Robustness to small changes of the images",
    source="Yoshida and Miyato 2017; Cisse et al. 2017 (Parseval networks)",
    published="less sensitivity to perturbations, more robustness to adversarial examples",
    statistic=f"accuracy on test images changed by {RADIUS} in the Euclidean norm (PGD, 20 steps), "
    "among settings within 0.5 % of the best clean accuracy",
    higher=True,
    make_task=_make_task,
    arms=_arms(),
    tuning=lambda measured: measured["validation attacked"],
    value=lambda measured: measured["test attacked"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, noise.DIGITS),
        "quick": Preset(Budget(6, 100), 3, 3, noise.DIGITS),
        "full": Preset(Budget(30, 100), 8, 8, noise.MNIST),
    },
    also={"clean": lambda measured: measured["test"]},
    equal=lambda measured: measured["validation"],
    tolerance=0.005,
)
