"""What acts on the update of each layer by a factor of its own."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._axes_argument import Axes, ResolvedAxes
from ._clock import check_every, renewed
from ._hyperparameters import unpacked
from ._layer_factors import Values, one_a_layer, scaled
from ._layers import Conv, read_layers
from ._one_body import in_one_body
from ._optax_state import check_fits, check_params, check_updates, check_values, is_placeholder
from ._penalty import layer_values
from ._reading import select_layers
from ._reparametrized import Reparametrized, by_source
from ._spectral_metric import Metric, metric_name
from ._trees import Mask, PyTree, path_name


class LayerFactorsState(NamedTuple):
    """State of :func:`scale_by_layer_spectra` and :func:`add_decayed_weights_by_spectra`.

    Attributes:
        count: Steps taken.
        values: The last metric of each layer: name of the metric, to path, to ``[*stack]``. NaN
            before the first step.
        factors: The factors computed from it, by path ``[*stack]``.
        previous: The factors in force before those, where a ``transition`` starts.
        num_not_finite: The number of layers whose metric was not finite, which have the factor 1.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    values: dict[str, Values]
    factors: Values
    previous: Values
    num_not_finite: jax.Array


def by_layer_factors(
    act: Callable[..., jax.Array],
    deal: Callable[[Values], tuple[Values, jax.Array]],
    metric: Metric,
    every: int,
    transition: int,
    mask: Mask,
    conv: Conv,
    axes: Axes,
    *,
    of_sources: bool,
) -> optax.GradientTransformationExtraArgs:
    """What acts on the update of each selected leaf by its factor.

    Args:
        of_sources: Whether it makes sense for what a weight is made of, as a learning rate does.
    """
    metric, mask, conv = unpacked(metric), unpacked(mask), unpacked(conv)
    period, name_of_metric = check_every(every), metric_name(metric)
    is_injected = isinstance(transition, jax.Array) or not isinstance(period, int)
    if not is_injected and not (isinstance(transition, int) and 0 <= transition <= period):
        raise ValueError(
            f"transition is {transition!r}; expected a whole number from 0 to every, {every}"
        )

    def values_of(leaves: dict[str, Any], resolved: ResolvedAxes) -> Values:
        def value_of(name: str, leaf: Any) -> jax.Array:
            own, its_axes = {name: leaf}, ResolvedAxes({name: resolved[name]})
            values = layer_values(own, metric, mask={name: True}, conv=conv, axes=its_axes)
            (layer,) = read_layers(own, mask={name: True}, conv=conv, axes=its_axes).values()
            # Zeros have no spectrum to read a factor from, whatever number a metric gives for them.
            sizes = jnp.max(jnp.abs(layer.weight), axis=range(layer.num_batch, layer.weight.ndim))
            return jnp.where(sizes == 0, jnp.nan, one_a_layer(values[name], layer.num_batch))

        return in_one_body(value_of, leaves, resolved)

    def one_each(leaves: dict[str, jax.Array], resolved: ResolvedAxes) -> Values:
        layers = read_layers(
            leaves, mask=dict.fromkeys(leaves, True), conv=conv, axes=resolved
        ).items()
        return {name: jnp.ones(layer.weight.shape[: layer.num_batch]) for name, layer in layers}

    def init(params: PyTree) -> LayerFactorsState:
        zero = jnp.zeros((), jnp.int32)
        if is_placeholder(params):
            # Nothing here is a tree like the parameters.
            return LayerFactorsState(zero, {name_of_metric: zero}, zero, zero, zero)  # type: ignore
        leaves, resolved = select_layers(params, mask, axes)
        shapes = jax.eval_shape(lambda leaves: values_of(leaves, resolved), leaves)
        jax.eval_shape(deal, shapes)  # refuses what does not fit before training begins
        for name, leaf in leaves.items():
            if isinstance(leaf, Reparametrized) and (shapes[name].shape or not of_sources):
                raise ValueError(
                    f"mask selects {name!r}, which is made of {[*leaf.sources]}; expected a weight "
                    "that is trained itself: leave it out with mask"
                )

        def filled(value: float) -> Values:
            # Each in a buffer of its own, as a training step that donates its state needs it.
            return {name: jnp.full(s.shape, value, s.dtype) for name, s in shapes.items()}

        return LayerFactorsState(
            zero, {name_of_metric: filled(jnp.nan)}, filled(1), filled(1), jnp.zeros((), jnp.int32)
        )

    def update(
        updates: PyTree, state: LayerFactorsState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, LayerFactorsState]:
        del extra
        check_params(params)
        leaves, resolved = select_layers(params, mask, axes)
        check_updates(updates, by_source(leaves))
        expected = jax.eval_shape(lambda leaves: one_each(leaves, resolved), leaves)
        check_fits("factors", state.factors, expected)
        check_values(state.values, [name_of_metric], "another metric")
        held = (state.values[name_of_metric], state.factors, state.previous, state.num_not_finite)
        due = state.count % period == 0

        def recompute() -> tuple[Values, Values, Values, jax.Array]:
            values = values_of(leaves, resolved)
            factors, num_not_finite = deal(values)
            return values, factors, state.factors, num_not_finite

        values, factors, previous, num_not_finite = renewed(due, recompute, held)
        share = jnp.minimum((state.count % period + 1) / jnp.maximum(transition, 1), 1)
        sources, times = {}, {}
        for name, leaf in leaves.items():
            way = factors[name] - previous[name]
            factor = previous[name] + share.astype(way.dtype) * way
            for source, part in by_source({name: leaf}).items():
                sources[source] = part
                times[source] = functools.partial(scaled, name, factor, resolved[name])

        def act_on(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
            name = path_name(path)
            if name not in times:
                return update
            return act(update, sources[name], state.count, times[name])

        return jax.tree.map_with_path(act_on, updates), LayerFactorsState(
            optax.safe_increment(state.count),
            {name_of_metric: values},
            factors,
            previous,
            num_not_finite,
        )

    return optax.GradientTransformationExtraArgs(init, update)
