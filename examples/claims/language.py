"""The task of the language model: bytes of the help pages that every Python has."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import spectral_reg as sr
from examples.claims.claim import Setting
from examples.claims.engine import Measures, Task, as_they_are, nothing
from examples.training import language_model

BLOCKS = sr.by_path("blocks/*/kernel")
# What AdamW is tuned over.
GRID: tuple[Setting, ...] = tuple(
    {"rate": rate, "decay": decay}
    for rate, decay in itertools.product((4e-3, 2e-3, 8e-3, 1e-3), (0.1, 1.0))
)
# Of the text, from its end: the last tenth for judging, the one before it for tuning.
NUM_PARTS = 10
WINDOWS_AT_ONCE = 32
SMOKE: dict[str, Any] = {"width": 8, "num_blocks": 1, "context": 8, "batch_size": 2}
QUICK: dict[str, Any] = {"width": 32, "num_blocks": 2, "context": 32, "batch_size": 8}
SMALL: dict[str, Any] = {
    "width": 64,
    "num_blocks": 2,
    "context": 64,
    "batch_size": 8,
    "held_out": 256,
}
# A first round, at the rates of the larger model, had its best at the highest.
RATE_SCALE = 2


def task(
    *,
    width: int = 128,
    num_blocks: int = 4,
    context: int = 128,
    batch_size: int = 16,
    held_out: int | None = None,
    watched: Callable[[Any, Any, Any, jax.Array, jax.Array], Measures] | None = None,
    judged: Callable[[Callable[[Any, str], jax.Array], Any], Measures] | None = None,
) -> Task:
    """Next bytes, by a :class:`LanguageModel` of stacked blocks.

    Args:
        width: Number of features.
        num_blocks: Number of blocks.
        context: Length of a window.
        batch_size: Windows a step.
        held_out: At most so many windows of each held-out part, evenly over it; all by default.
        watched: As for :class:`Task`; nothing by default.
        judged: More to judge at the end, from a function that gives the loss of parameters on
            `"validation"` or `"test"`, and the parameters.

    Returns:
        The task; it is judged by `"validation"` and `"test"`, nats a byte.
    """
    text = jnp.concatenate([jnp.asarray(part) for part in language_model.texts()])
    part = text.size // NUM_PARTS
    data = {"train": text[: -2 * part], "validation": text[-2 * part : -part], "test": text[-part:]}
    shape = {"width": width, "num_blocks": num_blocks, "context": context, "scanned": True}
    graph, _ = language_model.initial(**shape)

    def initial(key: jax.Array) -> Any:
        # nnx draws from a seed, or from a key that it is given.
        return language_model.initial(key, **shape)[1]

    def batch(data: Any, key: jax.Array, step: jax.Array) -> jax.Array:
        last = data["train"].size - context
        starts = jax.random.randint(jax.random.fold_in(key, step), (batch_size, 1), 0, last)
        return data["train"][starts + jnp.arange(context + 1)[None]].astype(jnp.int32)

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        return language_model.cross_entropy(graph, params, batch)

    def held_out_loss(data: Any, params: Any, split: str) -> jax.Array:
        num_windows = (data[split].size - 1) // context
        every = -(-num_windows // (held_out or num_windows))
        num_windows //= every
        num_batches = max(1, num_windows // WINDOWS_AT_ONCE)
        size = min(num_windows, WINDOWS_AT_ONCE)
        starts = every * context * jnp.arange(num_batches * size).reshape(num_batches, size, 1)
        offsets = jnp.arange(context + 1)[None]

        def one(starts: jax.Array) -> jax.Array:
            return loss(params, data[split][starts + offsets].astype(jnp.int32))

        return jnp.mean(jax.lax.map(one, starts))

    def judge(data: Any, params: Any) -> Measures:
        def of(params: Any, split: str) -> jax.Array:
            return held_out_loss(data, params, split)

        return {
            "validation": of(params, "validation"),
            "test": of(params, "test"),
            **(judged(of, params) if judged else {}),
        }

    return Task(data, initial, as_they_are, batch, loss, watched or nothing, judge)
