"""Optimizers of the arms: functions of a trial's settings, which are traced numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr
from examples.claims.engine import Optimizer, Settings

WARMUP = 0.05


def cosine(rate: jax.Array, num_steps: int) -> optax.Schedule:
    """A linear warmup over 5 % of the steps, then half a cosine down to 0."""
    warmup = max(1, int(WARMUP * num_steps))

    def schedule(count: jax.Array) -> jax.Array:
        done = (count - warmup) / max(1, num_steps - warmup)
        falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
        return rate * jnp.minimum((count + 1) / warmup, falling)

    return schedule


def constant(rate: jax.Array, num_steps: int) -> optax.Schedule:
    """The same rate throughout."""
    del num_steps
    return lambda count: rate


def decayed(
    scaling: Callable[[], optax.GradientTransformation],
    *,
    schedule: Callable[[jax.Array, int], optax.Schedule] = cosine,
    before: Callable[[Settings], optax.GradientTransformation] | None = None,
    after: Callable[[Settings, jax.Array], optax.GradientTransformation] | None = None,
    decay: Callable[[Settings, jax.Array], optax.GradientTransformation] | None = None,
) -> Optimizer:
    """An optimizer of the settings `rate` and `decay`, with additions.

    Args:
        scaling: What makes updates of gradients.
        schedule: Of the rate over the steps.
        before: Acts on the gradient, as a term of the loss does.
        after: Acts on the update.
        decay: In the place of the weight decay.
    """

    def optimizer(
        settings: Settings, key: jax.Array, num_steps: int
    ) -> optax.GradientTransformation:
        shrunk = decay or (lambda settings, key: optax.add_decayed_weights(settings["decay"]))
        parts = [
            *([before(settings)] if before else []),
            scaling(),
            shrunk(settings, key),
            optax.scale_by_learning_rate(schedule(settings["rate"], num_steps)),
            *([after(settings, key)] if after else []),
        ]
        return optax.chain(*parts)

    return optimizer


adamw = partial(decayed, partial(optax.scale_by_adam, b2=0.98))
sgd = partial(decayed, partial(optax.trace, 0.9))


def penalty(metric: Any, **options: Any) -> Callable[[Settings], optax.GradientTransformation]:
    """A penalty of the setting `strength`, as a term of the loss."""
    return lambda settings: sr.add_spectral_penalty(metric, settings["strength"], **options)


def cap(**options: Any) -> Callable[[Settings, jax.Array], optax.GradientTransformation]:
    """A cap at the setting `bound`, after the step."""
    return lambda settings, key: sr.cap_spectral_norm(lambda count: settings["bound"], **options)


def clipped(settings: Settings) -> optax.GradientTransformation:
    """The gradient, cut to the norm of the setting `bound`."""
    return optax.clip_by_global_norm(settings["bound"])


def l2(settings: Settings) -> optax.GradientTransformation:
    """L2 of the setting `strength`, as a term of the loss."""
    return optax.add_decayed_weights(settings["strength"], mask=_matrices)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
