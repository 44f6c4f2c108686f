"""A spectral penalty whose spectra are tracked from step to step."""

from typing import Any

import jax
import jax.numpy as jnp

from ._axes_argument import Axes
from ._layers import Conv, Layer, pool, read_layers
from ._penalty import in_layer
from ._spectral_metric import Metric, NormMetric, function_of_eigenvalues, resolved
from ._tracking import no_top_vectors, no_vectors, tracked_eigenvalues, tracked_norms

Vectors = dict[str, Any]  # arrays or TopVectors


def no_tracking(leaves: dict[str, jax.Array], metric: Metric, conv: Conv, axes: Axes) -> Vectors:
    """What tracking begins with, by path: zeros, from which it starts by itself."""
    start = no_top_vectors if isinstance(resolved(metric), NormMetric) else no_vectors
    return {name: start(layer.weight) for name, layer in _layers(leaves, conv, axes).items()}


def tracked_values(
    leaves: dict[str, jax.Array], vectors: Vectors, metric: Metric, conv: Conv, axes: Axes
) -> tuple[dict[str, jax.Array], Vectors]:
    """The metric of each layer from the vectors of the last step, and the vectors of this one."""
    metric = resolved(metric)
    values = {}
    followed: Vectors = {}
    for name, layer in _layers(leaves, conv, axes).items():
        W, num_batch = layer.weight, layer.num_batch
        pooled = conv == "pooled" and W.ndim > num_batch + 2
        if isinstance(metric, NormMetric):
            squared_norm, top, followed[name] = tracked_norms(W, vectors[name])
            if pooled:
                squared_norm = jnp.sum(pool(squared_norm, num_batch), axis=-1)
                top = pool(top, num_batch)[..., 0]
            with in_layer(name):
                values[name] = metric.of_norms(squared_norm, top)
        else:
            spectrum, followed[name] = tracked_eigenvalues(W, vectors[name])
            if pooled:
                spectrum = pool(spectrum, num_batch)
            with in_layer(name):
                values[name] = function_of_eigenvalues(metric)(spectrum)
    return values, followed


def _layers(leaves: dict[str, jax.Array], conv: Conv, axes: Axes) -> dict[str, Layer]:
    return read_layers(leaves, mask=dict.fromkeys(leaves, True), conv=conv, axes=axes)
