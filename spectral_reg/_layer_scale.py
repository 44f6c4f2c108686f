"""Learning rates and weight decays layer by layer, from the spectra of the weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._alpha import hill
from ._axes_argument import Axes, ResolvedAxes
from ._hyperparameters import unpacked
from ._layer_factors import Ratio, Values, factors_of, one_a_layer, scaled
from ._layers import Conv, read_layers
from ._one_body import in_one_body
from ._optax_state import check_fits, check_updates, is_placeholder
from ._penalty import check_number, layer_values
from ._reading import select_layers
from ._reparametrized import Reparametrized, by_source
from ._spectral_metric import Metric, metric_name, spectral_metric
from ._stacks import anywhere
from ._transformation import check_every
from ._trees import Mask, PyTree, path_name


@spectral_metric
def hill_alpha(eigenvalues: jax.Array) -> jax.Array:
    """The exponent that TempBalance, AlphaDecay and LLR read: xmin is the median eigenvalue."""
    return hill(0.5)(eigenvalues)


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


def scale_by_layer_spectra(
    ratio: Ratio,
    metric: Metric = hill_alpha,
    *,
    every: int = 100,
    transition: int = 0,
    mask: Mask = None,
    conv: Conv = "pooled",
    axes: Axes = None,
    groups: Callable[[str], str] | None = None,
    permute_layers: jax.Array | None = None,
    uniform: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Gives each layer a learning rate of its own, from the spectra of all layers.

    .. math:: u_l \leftarrow f_l u_l, \quad (f_1, \dots, f_L) = ratio(m(W_1), \dots, m(W_L))

    It goes after the optimizer's own scaling (``optax.adamw``, ``optax.scale_by_adam``): placed
    before, Adam and similar optimizers would divide the factors out again. After ``optax.adamw`` it
    scales the weight decay too, as a learning rate does.

    ============ ====================================================================== ==========
    published as with                                                                   every
    ============ ====================================================================== ==========
    TempBalance  ``linear_ratio(0.5, 1.5, keep_mean=False)``                            an epoch
    LLR          ``linear_ratio(1, 5, keep_mean=False)``, ``transition=50``             100 steps
    ============ ====================================================================== ==========

    Args:
        ratio: A function from the metric of all layers ``[num_layers]`` to their factors, such as
            :func:`linear_ratio`.
        metric: A function from matrices to numbers. By default alpha by Hill's estimator with the
            median eigenvalue as xmin, as published; any other works, such as :func:`stable_rank`,
            :func:`alpha` with :func:`rank_regression`, or :func:`sampled` with ``conv="slices"``.
        every: Recompute the factors each n-th step, the first step included.
        transition: Number of steps over which the factors move linearly to the new ones; 0 to
            change them at once.
        mask: Which leaves, as for :func:`layer_matrices`; all others keep their updates. To keep
            the embedding and the head at the common rate, pass
            ``by_path("*", exclude=("embed*", "head*"))``.
        conv: As for :func:`layer_spectra`. Where a convolution has several values, their mean
            counts.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.
        groups: A function from the path of a matrix (``blocks/attention/query/kernel``, followed by
            ``[3]`` in a stack) to the name of its group, such as a block's attention. The layers of
            a group share the factor of their mean metric.
        permute_layers: A random key, to give the same factors to the wrong layers: the control for
            whether it matters which layer gets which. No layer keeps its own.
        uniform: Give all layers the mean of the factors: the control for whether the mean alone
            explains a gain.

    Returns:
        The transformation; ``update`` needs ``params``. Its state holds the metric and the factor
        of each layer.

    Raises:
        ValueError: If ``every`` < 1, ``transition`` is negative or above ``every``, fewer than two
            layers or groups are selected, the ratio returns another shape, or as for
            :func:`layer_spectra`.
        TypeError: As for :func:`layer_spectra`.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> optimizer = optax.chain(
        ...     optax.sgd(1.0),
        ...     sr.scale_by_layer_spectra(sr.linear_ratio(0.5, 1.5), sr.stable_rank),
        ... )
        >>> params = {"fc1": {"kernel": jnp.diag(jnp.array([2.0, 1.0]))},
        ...           "fc2": {"kernel": jnp.eye(2)}}
        >>> gradient = {"fc1": {"kernel": jnp.eye(2)}, "fc2": {"kernel": jnp.eye(2)}}
        >>> updates, state = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(updates["fc1"]["kernel"][0, 0], updates["fc2"]["kernel"][0, 0])
        -0.5 -1.5

    Cost: one eigendecomposition per matrix at each n-th step, and a product with a scalar on the
    others. A layer whose metric is not finite has the factor 1; the state counts such layers.

    References:
        As for :func:`linear_ratio`.
    """
    deal = functools.partial(
        factors_of,
        ratio=unpacked(ratio),
        groups=groups,
        permute_layers=permute_layers,
        uniform=uniform,
    )

    def scale(
        update: jax.Array, param: jax.Array, count: jax.Array, times: Callable[..., jax.Array]
    ) -> jax.Array:
        del param, count
        return times(update)

    return _by_layer_factors(
        scale, deal, metric, every, transition, mask, conv, axes, of_sources=True
    )


def add_decayed_weights_by_spectra(
    weight_decay: float | jax.Array | Callable[[jax.Array], jax.Array],
    ratio: Ratio,
    metric: Metric = hill_alpha,
    *,
    every: int = 500,
    transition: int = 0,
    mask: Mask = None,
    conv: Conv = "pooled",
    axes: Axes = None,
    groups: Callable[[str], str] | None = None,
    permute_layers: jax.Array | None = None,
    uniform: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Gives each layer a weight decay of its own, from the spectra of all layers.

    .. math:: u_l \leftarrow u_l + f_l \, w \, W_l, \quad
        (f_1, \dots, f_L) = ratio(m(W_1), \dots, m(W_L))

    It goes where ``optax.add_decayed_weights`` goes: after the optimizer's own scaling and before
    the learning rate, with a positive sign.

    AlphaDecay as published is ``linear_ratio(2 / 3, 5, keep_mean=False)`` with ``every=500``.

    Args:
        weight_decay: The decay w, or a schedule of the step count.
        ratio: As for :func:`scale_by_layer_spectra`, like all arguments below.
        metric: A function from matrices to numbers.
        every: Recompute the factors each n-th step, the first step included.
        transition: Number of steps over which the factors move linearly to the new ones.
        mask: Which leaves; the others are not decayed.
        conv: As for :func:`layer_spectra`.
        axes: As for :func:`layer_matrices`.
        groups: A function from the path of a matrix to the name of its group.
        permute_layers: A random key, to give the same factors to the wrong layers.
        uniform: Give all layers the mean of the factors.

    Returns:
        The transformation; ``update`` needs ``params``.

    Raises:
        ValueError: If the weight decay is not finite, or as for :func:`scale_by_layer_spectra`.
        TypeError: As for :func:`layer_spectra`.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> optimizer = optax.chain(
        ...     optax.scale_by_adam(),
        ...     sr.add_decayed_weights_by_spectra(0.1, sr.linear_ratio(2 / 3, 5), sr.stable_rank),
        ...     optax.scale_by_learning_rate(1e-3),
        ... )
        >>> params = {"fc1": {"kernel": jnp.diag(jnp.array([2.0, 1.0]))},
        ...           "fc2": {"kernel": jnp.eye(2)}}
        >>> zeros = {"fc1": {"kernel": jnp.zeros((2, 2))}, "fc2": {"kernel": jnp.zeros((2, 2))}}
        >>> updates, state = optimizer.update(zeros, optimizer.init(params), params)
        >>> print(f'{updates["fc2"]["kernel"][0, 0]:.6f} {state[1].factors["fc2/kernel"]:.4f}')
        -0.000176 1.7647

    Cost and degenerate spectra: those of :func:`scale_by_layer_spectra`.

    References:
        He et al., AlphaDecay: module-wise weight decay for heavy-tailed balancing in LLMs, 2025,
        arXiv 2506.14562.
    """
    if not callable(weight_decay):
        check_number("weight_decay", weight_decay)

    deal = functools.partial(
        factors_of,
        ratio=unpacked(ratio),
        groups=groups,
        permute_layers=permute_layers,
        uniform=uniform,
    )

    def decay(
        update: jax.Array, param: jax.Array, count: jax.Array, times: Callable[..., jax.Array]
    ) -> jax.Array:
        strength = weight_decay(count) if callable(weight_decay) else weight_decay
        wide = np.promote_types(np.promote_types(update.dtype, param.dtype), np.float32)
        decayed = jnp.asarray(strength, wide) * times(param).astype(wide)
        return (update.astype(wide) + decayed).astype(update.dtype)

    return _by_layer_factors(
        decay, deal, metric, every, transition, mask, conv, axes, of_sources=False
    )


def _by_layer_factors(
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
            return one_a_layer(values[name], layer.num_batch)

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
        if params is None:
            raise ValueError("params is None; expected parameters: update(updates, state, params)")
        leaves, resolved = select_layers(params, mask, axes)
        check_updates(updates, by_source(leaves))
        expected = jax.eval_shape(lambda leaves: one_each(leaves, resolved), leaves)
        check_fits("factors", state.factors, expected)
        held = (state.values[name_of_metric], state.factors, state.previous, state.num_not_finite)
        due = state.count % period == 0

        def recompute() -> tuple[Values, Values, Values, jax.Array]:
            values = values_of(leaves, resolved)
            factors, num_not_finite = deal(values)
            new = (values, factors, state.factors, num_not_finite)
            return jax.tree.map(lambda new, old: jnp.where(due, new, old), new, held)

        values, factors, previous, num_not_finite = jax.lax.cond(
            anywhere(due), recompute, lambda: held
        )
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
