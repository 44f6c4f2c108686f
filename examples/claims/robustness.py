"""How well images are told apart after small changes: those an attack finds, and any."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import spectral_reg as sr
from examples.claims import images, noise
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Budget, Measures, Optimizer, Program, Task
from examples.claims.optimizers import adamw, cap, l2, penalty

# Of the change, in the Euclidean norm of pixels from 0 to 1.
RADIUS = 1.5
# Up to which no change at all may mislead the network. The bound on that is a loose one.
PROVED_RADIUS = 0.5
NUM_STEPS = 20
NUM_ATTACKED = 1000
BOUNDS = (1.0, 2.0)
KERNELS = sr.by_path("fc*/kernel")


def attacked(
    params: images.Params,
    pixels: jax.Array,
    labels: jax.Array,
    *,
    radius: float = RADIUS,
    num_steps: int = NUM_STEPS,
    start: jax.Array | float = 0.0,
) -> jax.Array:
    """Images `[n, pixels]` after projected gradient ascent, within a radius.

    What ascends is by how much the highest logit of a wrong class exceeds that of the right one.
    The cross-entropy of a network that is sure rounds to 0, and its gradient with it: such an
    attack finds nothing, and takes the surest network for the most robust.

    Args:
        params: Of the network.
        pixels: From 0 to 1.
        labels: The right classes, `[n]`.
        radius: Of the change, in the Euclidean norm.
        num_steps: Of the ascent.
        start: The change with which it begins; it is brought within the radius first.
    """

    def within(change: jax.Array) -> jax.Array:
        change = change * jnp.minimum(1, radius / _norms(change))
        return jnp.clip(pixels + change, 0, 1) - pixels

    def excess(change: jax.Array) -> jax.Array:
        logits = images.logits_of(params, pixels + change)
        right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        highest_wrong = jnp.max(jnp.where(right, -jnp.inf, logits), axis=-1)
        return jnp.sum(highest_wrong - jnp.max(jnp.where(right, logits, -jnp.inf), axis=-1))

    def step(change: jax.Array, _: None) -> tuple[jax.Array, None]:
        gradient = jax.grad(excess)(change)
        return within(change + 2.5 * radius / num_steps * gradient / _norms(gradient)), None

    change, _ = jax.lax.scan(step, within(jnp.full_like(pixels, start)), length=num_steps)
    return pixels + change


def proved(
    params: images.Params, pixels: jax.Array, labels: jax.Array, *, radius: float = PROVED_RADIUS
) -> jax.Array:
    """Which images `[n, pixels]` no change within a radius can mislead the network on.

    Between two classes the logits' difference changes by at most the change of the image times the
    largest singular values of the hidden layers times the length of the difference of the two
    classes' weights (Szegedy et al. 2014; Tsuzuku et al. 2018), as no ReLU makes a change longer.

    Returns:
        `[n]`, whether each is right and stays so.
    """
    *hidden, last = (layer["kernel"] for _, layer in sorted(params.items()))
    longest = jnp.prod(jnp.stack([sr.spectral_norm(kernel) for kernel in hidden]))
    own = jnp.take(last, labels, axis=1).T
    apart = jnp.linalg.norm(own[:, :, None] - last[None], axis=1)
    logits = images.logits_of(params, pixels)
    ahead = jnp.take_along_axis(logits, labels[:, None], axis=1) - logits
    is_other = ~jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    stays = ahead > radius * longest * apart
    return jnp.all(stays | ~is_other, axis=1)


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
        certain = proved(params, pixels, labels)
        measures[f"{split} proved"] = jnp.mean(certain.astype(jnp.float32))
    return measures


def _make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    return noise.make_task({**options, "judged": _judged}, folder)


def _arms() -> dict[str, Arm]:
    arms = {
        "adam": Arm(Program(adamw()), noise.RATES, text="Adam"),
        "l2": Arm(
            Program(adamw(before=l2)),
            noise.grid(1e-3, 3e-3, 1e-2, 3e-4, rates=(3e-3, 1e-3)),
            text="L2",
        ),
        "weight decay": Arm(Program(adamw()), noise.decays(1.0, 0.3, 3.0, 0.1), text="AdamW"),
    }
    usual = tuple(arms)

    def add(name: str, optimizer: Optimizer, grid: tuple[Setting, ...], text: str) -> None:
        controls = (*usual, f"norms of {name}")
        arms[name] = Arm(Program(optimizer), grid, controls=controls, text=text)
        held = Program(adamw(), norms_of=optimizer)
        arms[f"norms of {name}"] = Arm(held, tuned_as=name, text=f"Adam at the norms of {name}")

    hard = tuple(
        {"rate": rate, "decay": 0.0, "bound": bound}
        for rate, bound in itertools.product((3e-3, 1e-3), (1.0, 2.0, 4.0, 0.5))
    )
    text = "no singular value above a bound after any step"
    add("hard cap", adamw(after=cap(mask=KERNELS)), hard, text)
    for bound in BOUNDS:
        metric = sr.hinge(sr.spectral_norm, above=bound)
        before = penalty(metric, tracking="warm", mask=KERNELS)
        text = f"largest singular values of at most {bound:g} asked for"
        add(f"cap {bound:g}", adamw(before=before), noise.grid(1e-2, 1e-1, 1e-3, 1.0), text)
    return arms


ATTACKED = Claim(
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
        "small": Preset(Budget(8, 100), 6, 6, noise.SMALL),
        "full": Preset(Budget(15, 100), 8, 8, noise.MNIST),
    },
    also={
        "clean": lambda measured: measured["test"],
        "proved": lambda measured: measured["test proved"],
    },
    equal=lambda measured: measured["validation"],
    tolerance=0.005,
    shared="robustness",
)

PROVED = ATTACKED._replace(
    title="Robustness that can be proved",
    source="Tsuzuku et al. 2018 (Lipschitz-margin training)",
    published="provable robustness, where weight decay and the like give next to none",
    statistic=f"share of test images that no change of {PROVED_RADIUS} in the Euclidean norm can "
    "mislead the network on, by its Lipschitz bound, among settings within 0.5 % of the best clean "
    "accuracy",
    tuning=lambda measured: measured["validation proved"],
    value=lambda measured: measured["test proved"],
    also={
        "clean": lambda measured: measured["test"],
        "attacked": lambda measured: measured["test attacked"],
    },
)
