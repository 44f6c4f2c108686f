"""A metric of every layer with its gradient, and the vectors that tracking goes on from."""

from typing import Any

import jax
import jax.numpy as jnp

from ._axes_argument import ResolvedAxes
from ._layers import Conv
from ._one_body import summed_in_one_body
from ._penalty import layer_values
from ._spectral_metric import Metric
from ._tracked_penalty import Vectors, tracked_values


def follow_layers(
    leaves: dict[str, Any],
    vectors: Vectors,
    axes: ResolvedAxes,
    *,
    metric: Metric,
    conv: Conv,
    tracking: str,
    with_gradient: bool = True,
) -> tuple[jax.Array, dict[str, jax.Array], dict[str, Any], Vectors]:
    """The sum of the metric's values; and by path these, their gradients, and the vectors now.

    A layer's gradient is of that layer alone, so layers that are alike go through one body.
    Without gradients, None stands in their place; without tracking there are no vectors.
    """

    def one(name: str, argument: tuple[Any, Any]) -> tuple[jax.Array, tuple[jax.Array, Any, Any]]:
        leaf, own_vectors = argument
        own_axes = ResolvedAxes({name: axes[name]})

        def total(leaf: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            own = {name: leaf}
            if name in vectors:
                values, followed = tracked_values(
                    own, {name: own_vectors}, metric, conv, own_axes, tracking
                )
                return jnp.sum(values[name]), (values[name], followed[name])
            mask = {name: True}
            values = layer_values(own, metric, mask=mask, conv=conv, axes=own_axes)
            return jnp.sum(values[name]), (values[name], None)

        if not with_gradient:
            number, (value, followed) = total(leaf)
            return number, (value, None, followed)
        (number, (value, followed)), gradient = jax.value_and_grad(total, has_aux=True)(leaf)
        return number, (value, gradient, followed)

    arguments = {name: (leaf, vectors.get(name)) for name, leaf in leaves.items()}
    summed, done = summed_in_one_body(one, arguments, axes)
    values, gradients, followed = (
        {name: results[place] for name, results in done.items()} for place in range(3)
    )
    return summed, values, gradients, {name: followed[name] for name in vectors}
