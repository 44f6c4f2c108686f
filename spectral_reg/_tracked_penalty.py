"""A spectral penalty whose spectra are tracked from step to step."""

import jax
import jax.numpy as jnp

from ._axes_argument import Axes
from ._layers import Conv, Layer, pool, read_layers
from ._penalty import in_layer, total_of
from ._spectral_metric import Metric, function_of_eigenvalues
from ._tracking import initial_top_vectors, initial_vectors, tracked_eigenvalues, tracked_norms

Vectors = dict[str, jax.Array]


def start_tracking(leaves: dict[str, jax.Array], metric: Metric, conv: Conv, axes: Axes) -> Vectors:
    """The singular vectors that the metric needs, of each layer, by a decomposition."""
    if hasattr(metric, "of_norms"):
        start = initial_top_vectors
    else:
        function_of_eigenvalues(metric)  # refuses a plain function before training begins
        start = initial_vectors
    return {name: start(layer.weight) for name, layer in _layers(leaves, conv, axes).items()}


def tracked_penalty(
    leaves: dict[str, jax.Array], vectors: Vectors, metric: Metric, conv: Conv, axes: Axes
) -> tuple[jax.Array, Vectors]:
    """The penalty from the vectors of the last step, and the vectors of this one."""
    values, followed = {}, {}
    for name, layer in _layers(leaves, conv, axes).items():
        W, num_batch = layer.weight, layer.num_batch
        pooled = conv == "pooled" and W.ndim > num_batch + 2
        if hasattr(metric, "of_norms"):
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
    return total_of(values), followed


def _layers(leaves: dict[str, jax.Array], conv: Conv, axes: Axes) -> dict[str, Layer]:
    return read_layers(leaves, mask=dict.fromkeys(leaves, True), conv=conv, axes=axes)
