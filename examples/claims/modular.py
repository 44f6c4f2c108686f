"""The task of grokking: sums modulo a prime, of which a share is shown."""

from typing import Any

import jax
import jax.numpy as jnp

import spectral_reg as sr
from examples.claims.engine import Measures, Task, nothing
from examples.claims.images import Params, cross_entropy, dense_layers, logits_of


def task(*, prime: int = 97, share: float = 0.5, width: int = 128, batch_size: int = 512) -> Task:
    """`a + b` modulo a prime, by an embedding of each and two dense layers.

    Args:
        prime: The modulus.
        share: Of all pairs, those that are trained on: drawn anew for each seed.
        width: Of the embedding; the hidden layer is twice as wide.
        batch_size: Pairs a step.

    Returns:
        The task; watched are the accuracies on the pairs that are shown and on those that are not,
        and the least alpha of all layers.
    """
    pairs = jnp.stack(jnp.meshgrid(jnp.arange(prime), jnp.arange(prime)), axis=-1).reshape(-1, 2)
    num_shown = int(share * len(pairs))

    def initial(key: jax.Array) -> dict[str, Any]:
        first, second = jax.random.split(key)
        kernel = jax.random.normal(first, (prime, width)) / jnp.sqrt(width)
        layers = dense_layers(second, (2 * width, 2 * width, prime))
        return {"embed": {"embedding": kernel}, **layers}

    def prepared(data: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.permutation(key, data)

    def batch(data: Any, key: jax.Array, step: jax.Array) -> jax.Array:
        rows = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, num_shown)
        return data[rows]

    def logits(params: dict[str, Any], pairs: jax.Array) -> jax.Array:
        embedded = _embedding(params)[pairs].reshape(len(pairs), -1)
        return logits_of(_layers(params), embedded)

    def loss(params: dict[str, Any], pairs: jax.Array) -> jax.Array:
        embedded = _embedding(params)[pairs].reshape(len(pairs), -1)
        return cross_entropy(_layers(params), (embedded, jnp.sum(pairs, -1) % prime))

    def watched(
        data: Any, params: dict[str, Any], state: Any, key: jax.Array, step: jax.Array
    ) -> Measures:
        del state, key, step
        right = jnp.argmax(logits(params, data), -1) == jnp.sum(data, -1) % prime
        right = right.astype(jnp.float32)
        kernels = [layer["kernel"] for layer in _layers(params).values()]
        return {
            "shown": jnp.mean(right[:num_shown]),
            "hidden": jnp.mean(right[num_shown:]),
            "alpha": jnp.min(jnp.stack([sr.alpha(W) for W in (*kernels, _embedding(params))])),
        }

    return Task(pairs, initial, prepared, batch, loss, watched, nothing)


def _embedding(params: dict[str, Any]) -> jax.Array:
    return params["embed"]["embedding"]


def _layers(params: dict[str, Any]) -> Params:
    return {name: layer for name, layer in params.items() if name != "embed"}
