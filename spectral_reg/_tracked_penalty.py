"""A spectral penalty whose spectra are tracked from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._axes_argument import Axes
from ._layers import Conv, Layer, pool, read_layers
from ._penalty import in_layer
from ._spectral_metric import (
    Metric,
    NormMetric,
    function_of_eigenvalues,
    metric_name,
    resolved,
    tail_size,
    top_fraction,
)
from ._tail import Tail, no_tail, tracked_tail
from ._tracked_norms import TopVectors, no_top_vectors, tracked_norms
from ._tracking import no_vectors, tracked_eigenvalues

Vectors = dict[str, Any]  # arrays, TopVectors or Tail


def check_tail(metric: Metric) -> None:
    """Refuses a metric for which the largest eigenvalues are not enough."""
    if not isinstance(metric, NormMetric) and top_fraction(metric) == 1:
        raise ValueError(
            f"tracking is 'tail' and the metric {metric_name(metric)} reads the whole spectrum; "
            "expected one that says by its fraction that it reads the top, such as "
            "spectral_metric(smooth_hill(0.01, 0.1)), or tracking='warm'"
        )


def no_tracking(
    leaves: dict[str, jax.Array],
    metric: Metric,
    conv: Conv,
    axes: Axes,
    tracking: str = "warm",
    dtype: Any = None,
) -> Vectors:
    """What tracking begins with, by path: zeros, from which it starts by itself.

    The vectors stay of the type that they have here: that of the decomposition, or ``dtype``.
    """
    metric = resolved(metric)

    def start(layer: Layer) -> Any:
        if isinstance(metric, NormMetric):
            return no_top_vectors(layer.weight)
        if tracking == "tail":
            return no_tail(layer.weight, _num_tail(layer, metric, conv))
        return no_vectors(layer.weight)

    nothing = {name: start(layer) for name, layer in _layers(leaves, conv, axes).items()}
    if dtype is None:
        return nothing
    return {name: _with_vectors_of(followed, dtype) for name, followed in nothing.items()}


def tracked_values(
    leaves: dict[str, jax.Array],
    vectors: Vectors,
    metric: Metric,
    conv: Conv,
    axes: Axes,
    tracking: str = "warm",
) -> tuple[dict[str, jax.Array], Vectors]:
    """The metric of each layer from the vectors of the last step, and the vectors of this one."""
    metric = resolved(metric)
    values: dict[str, jax.Array] = {}
    followed: Vectors = {}
    for name, layer in _layers(leaves, conv, axes).items():
        W, num_batch = layer.weight, layer.num_batch
        last = _with_vectors_of(vectors[name], np.promote_types(W.dtype, jnp.float32))
        if isinstance(metric, NormMetric):
            squared_norm, top, followed[name] = tracked_norms(W, last)
            if _is_pooled(layer, conv):
                squared_norm = jnp.sum(pool(squared_norm, num_batch), axis=-1)
                top = pool(top, num_batch)[..., 0]
            with in_layer(name):
                values[name] = metric.of_norms(squared_norm, top)
        else:
            if tracking == "tail":
                num_tail = _num_tail(layer, metric, conv)
                spectrum, followed[name] = tracked_tail(W, last, num_tail)
            else:
                spectrum, followed[name] = tracked_eigenvalues(W, last)
            if _is_pooled(layer, conv):
                spectrum = pool(spectrum, num_batch)
            with in_layer(name):
                values[name] = function_of_eigenvalues(metric)(spectrum)
        followed[name] = _with_vectors_of(followed[name], _vectors_of(vectors[name]).dtype)
    return values, followed


def _vectors_of(followed: Any) -> jax.Array:
    return followed.vectors if isinstance(followed, (Tail, TopVectors)) else followed


def _with_vectors_of(followed: Any, dtype: Any) -> Any:
    """The same in another type, but for the numbers beside the vectors."""
    vectors = _vectors_of(followed).astype(dtype)
    return (
        followed._replace(vectors=vectors) if isinstance(followed, (Tail, TopVectors)) else vectors
    )


def _is_pooled(layer: Layer, conv: Conv) -> bool:
    return conv == "pooled" and layer.weight.ndim > layer.num_batch + 2


def _num_tail(layer: Layer, metric: Metric, conv: Conv) -> int:
    """How many eigenvalues of each matrix the metric may read."""
    size = min(layer.weight.shape[-2:])
    # The top of a pooled spectrum may be that of any one of its matrices.
    if _is_pooled(layer, conv):
        return size
    return min(size, max(3, tail_size(top_fraction(metric), size)))


def _layers(leaves: dict[str, jax.Array], conv: Conv, axes: Axes) -> dict[str, Layer]:
    return read_layers(leaves, mask=dict.fromkeys(leaves, True), conv=conv, axes=axes)
