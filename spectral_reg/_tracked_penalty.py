"""A spectral penalty whose spectra are tracked from step to step."""

import jax
import jax.numpy as jnp

from ._layers import layer_matrices, pooled
from ._penalty import total_of
from ._spectral_metric import Metric, function_of_eigenvalues
from ._tracking import initial_top_vectors, initial_vectors, tracked_eigenvalues, tracked_norms

Vectors = dict[str, jax.Array]


def start_tracking(leaves: dict[str, jax.Array], metric: Metric, conv: str) -> Vectors:
    """The singular vectors that the metric needs, of each layer, by a decomposition."""
    if hasattr(metric, "of_norms"):
        start = initial_top_vectors
    else:
        function_of_eigenvalues(metric)  # refuses a plain function before training begins
        start = initial_vectors
    return {name: start(W) for name, W in _matrices(leaves, conv).items()}


def tracked_penalty(
    leaves: dict[str, jax.Array], vectors: Vectors, metric: Metric, conv: str
) -> tuple[jax.Array, Vectors]:
    """The penalty from the vectors of the last step, and the vectors of this one."""
    values, followed = {}, {}
    for name, W in _matrices(leaves, conv).items():
        pool = conv == "pooled" and W.ndim >= 4
        if hasattr(metric, "of_norms"):
            squared_norm, top, followed[name] = tracked_norms(W, vectors[name])
            if pool:
                squared_norm, top = jnp.sum(squared_norm), jnp.max(top)
            values[name] = metric.of_norms(squared_norm, top)
        else:
            spectrum, followed[name] = tracked_eigenvalues(W, vectors[name])
            values[name] = function_of_eigenvalues(metric)(pooled(spectrum) if pool else spectrum)
    return total_of(values), followed


def _matrices(leaves: dict[str, jax.Array], conv: str) -> dict[str, jax.Array]:
    slices = "slices" if conv == "pooled" else conv
    return layer_matrices(leaves, mask=dict.fromkeys(leaves, True), conv=slices)
