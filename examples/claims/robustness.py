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
from examples.claims.engine import Budget, Measures, Program, Task
from examples.claims.optimizers import adamw, cap, l2, penalty

# Of the change, in the Euclidean norm of pixels from 0 to 1.
RADIUS = 1.5
# Up to which no change at all may mislead the network. The bound on that is a loose one.
PROVED_RADIUS = 0.5
NUM_STEPS = 20
NUM_ATTACKED = 2000
OWN_RATES = tuple(2.0**k for k in (0, -1, 1, -2, 2, -3, 3, -4))
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


def to_attack(data: Any, split: str) -> tuple[jax.Array, jax.Array]:
    """Images, from 0 to 1, and labels evenly over a split: they do not come in random order."""
    every = max(1, len(data[f"{split}_labels"]) // NUM_ATTACKED)
    return images.scaled(data[f"{split}_images"][::every]), data[f"{split}_labels"][::every]


def _judged(data: Any, params: images.Params) -> Measures:
    measures = images.held_out_accuracies(data, params)
    for split in ("validation", "test"):
        pixels, labels = to_attack(data, split)
        kinds = {"attacked": RADIUS, "attacked less": PROVED_RADIUS}
        right = {
            name: jnp.argmax(
                images.logits_of(params, attacked(params, pixels, labels, radius=radius)), -1
            )
            == labels
            for name, radius in kinds.items()
        }
        right["proved"] = proved(params, pixels, labels)
        shares = {name: jnp.mean(each.astype(jnp.float32)) for name, each in right.items()}
        measures |= {f"{split} {name}": share for name, share in shares.items()}
    return measures


def _make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    return noise.make_task({**options, "judged": _judged}, folder)


def _grid(name: str, *numbers: float) -> tuple[Setting, ...]:
    return tuple(
        {"rate": rate, "decay": 0.0, name: number}
        for number, rate in itertools.product(numbers, (3e-3, 8e-3))
    )


def _arms() -> dict[str, Arm]:
    rates = tuple({"rate": 1e-3 * 2.0**k, "decay": 0.0} for k in (3, 2, 4, 1, 0, -1, 5, -2))
    arms = {
        "adam": Arm(Program(adamw()), rates, text="Adam"),
        "l2": Arm(Program(adamw(before=l2)), _grid("strength", 3e-3, 1e-2, 1e-3, 3e-2), text="L2"),
        "weight decay": Arm(Program(adamw()), _grid("decay", 1.0, 3.0, 0.3, 10.0), text="AdamW"),
    }
    usual = tuple(arms)
    before = penalty(sr.hinge(sr.spectral_norm, above=1.0), tracking="warm", mask=KERNELS)
    claimed = {
        "cap": (
            adamw(before=before),
            _grid("strength", 0.1, 0.3, 0.03, 1.0),
            "largest singular values of at most 1 asked for",
        ),
        "hard cap": (
            adamw(after=cap(mask=KERNELS)),
            _grid("bound", 2.0, 1.4, 2.8, 1.0),
            "no singular value above a bound after any step",
        ),
    }
    for name, (optimizer, grid, text) in claimed.items():
        controls = (*usual, f"norms of {name}")
        arms[name] = Arm(Program(optimizer), grid, controls=controls, text=text)
        held = Program(adamw(), norms_of=optimizer)
        text = f"Adam at the norms of {name}, its own rate tuned"
        arms[f"norms of {name}"] = Arm(held, tuned_as=name, own_rates=OWN_RATES, text=text)
    return arms


# Each run has a draw of its own from a pool.
SMALL = {**noise.SMALL, "train": 20_000, "drawn": 2000}
MNIST = {**noise.MNIST, "train": 50_000, "drawn": 10_000}

ATTACKED = Claim(
    title="Robustness to small changes of the images",
    source="Yoshida and Miyato 2017; Cisse et al. 2017 (Parseval networks)",
    published="less sensitivity to perturbations, more robustness to adversarial examples",
    statistic=f"accuracy on test images changed by {RADIUS} in the Euclidean norm (PGD, 20 steps), "
    "among settings within 1 % of the controls' best clean accuracy",
    higher=True,
    make_task=_make_task,
    arms=_arms(),
    tuning=lambda measured: measured["validation attacked"],
    value=lambda measured: measured["test attacked"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, noise.DIGITS),
        "quick": Preset(Budget(6, 100), 3, 3, noise.DIGITS),
        "small": Preset(Budget(8, 100), 10, 8, SMALL, num_tuning=3, first_seed=100),
        "full": Preset(Budget(15, 100), 8, 8, MNIST, first_seed=100),
    },
    also={
        "clean": lambda measured: measured["test"],
        f"changed by {PROVED_RADIUS}": lambda measured: measured["test attacked less"],
        f"proved at {PROVED_RADIUS}": lambda measured: measured["test proved"],
    },
    equal=lambda measured: measured["validation"],
    tolerance=0.01,
    axes=("clean accuracy", f"accuracy on images changed by {RADIUS}"),
    shared="robustness",
)

PROVED = ATTACKED._replace(
    title="Robustness that can be proved",
    source="Tsuzuku et al. 2018 (Lipschitz-margin training)",
    published="provable robustness, where weight decay and the like give next to none",
    statistic=f"share of test images that no change of {PROVED_RADIUS} in the Euclidean norm can "
    "mislead the network on, by its Lipschitz bound, among settings within 1 % of the controls' "
    "best clean accuracy",
    tuning=lambda measured: measured["validation proved"],
    value=lambda measured: measured["test proved"],
    also={
        "clean": lambda measured: measured["test"],
        f"changed by {PROVED_RADIUS}": lambda measured: measured["test attacked less"],
        f"changed by {RADIUS}": lambda measured: measured["test attacked"],
    },
    axes=("clean accuracy", f"accuracy that is proved at {PROVED_RADIUS}"),
)
