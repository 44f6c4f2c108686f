"""Spectral penalties as an Optax transformation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from . import _sharding as sharding
from ._axes_argument import Axes, ResolvedAxes
from ._clock import check_every, renewed
from ._conv_operator import ConvOperator
from ._follow_layers import follow_layers
from ._hyperparameters import unpacked
from ._layers import Conv, check_conv
from ._optax_state import (
    SpectralPenaltyState,
    check_fits,
    check_params,
    check_updates,
    check_values,
    filled,
    is_placeholder,
    zeros_of,
    zeros_where,
)
from ._part_of_model import select_part
from ._reparametrized import by_source
from ._spectral_metric import (
    Metric,
    NormMetric,
    check_metric,
    function_of_eigenvalues,
    metric_name,
    resolved,
)
from ._strength import Strength, check_strength, strengths_at
from ._tracked_penalty import Vectors, check_tail, no_tracking
from ._trees import Mask, PyTree, named_leaves, path_name

Leaves = dict[str, jax.Array]


def add_spectral_penalty(
    metric: Metric,
    strength: Strength,
    *,
    mask: Mask = None,
    conv: Conv = "slices",
    axes: Axes = None,
    every: int | jax.Array = 1,
    tracking: str = "exact",
    state_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adds the gradient of a spectral penalty to the updates.

    ``updates + strength * grad(spectral_penalty(params, metric))``

    Before the optimizer it acts like the same penalty in the loss. To decouple it, put it where
    ``optax.adamw`` has ``optax.add_decayed_weights``, with the same sign, before the learning rate:
    ``optax.chain(optax.scale_by_adam(), penalty, optax.scale_by_learning_rate(1e-3))``.

    ``optax.inject_hyperparams(sr.add_spectral_penalty)(metric, strength)`` makes a strength that
    can be set between steps without tracing again. (``every`` becomes such a number too, so the
    gradient is held; ``static_args="every"`` leaves it as it is. If the metric or the mask is a
    function of your own, put its name into ``static_args``.)

    Args:
        metric: From ``[..., rows, cols]`` to ``[...]``, such as :func:`log_stable_rank`.
        strength: Weight of the penalty, or a schedule of the step count; or a dict from path
            patterns, as in :func:`by_path`, to either, where the first pattern that matches a leaf
            counts. A negative strength raises the metric, without a bound; :func:`target` and
            :func:`hinge` raise it up to one.
        mask: Which leaves, as for :func:`layer_matrices`.
        conv: As for :func:`spectral_penalty`; ``tracking="warm"`` takes no :func:`conv_operator`.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.
        every: Recompute at each n-th step, and add the last gradient again on the steps between. A
            norm that is tracked is computed at every step, whatever this is, and nothing is held.
        tracking: How the spectrum is known. ``"exact"`` takes one eigendecomposition per matrix.
            ``"warm"`` keeps the singular vectors in the state and updates them with products alone:
            by conjugate gradients for metrics of the norms (:func:`norm_metric`), by damped Jacobi
            rotations for all others, with a decomposition only where the weights have moved too far
            in one step. ``"tail"`` keeps only the vectors of the largest eigenvalues, two to three
            times as many as the metric reads (its ``fraction``), and updates them by block power
            iteration, for matrices too large for the other two; it refuses metrics of the whole
            spectrum, and decomposes a matrix whose tail, twice, would be its whole spectrum.

            Tracking starts at the first step, and again after a jump of the weights, as to those of
            a checkpoint, or when they are finite again; such a step costs more. Tracked eigenvalues
            below 2e-7 of the largest count as zeros.

            Over 1,000 steps of MiniAlexNet on CIFAR-10 at b = 32, warm alpha stayed within 1e-5 of
            its exact value, and the cosine with the exact gradient was 0.999 or more; recomputed at
            every second or fifth step, 0.998 or more. On the steps between, the held gradient falls
            behind: one step later alpha was off by up to 0.05 and the cosine 0.988 or more, four
            steps later 0.21 and 0.978.

        state_dtype: Of the vectors and of a held gradient, such as ``"bfloat16"``, which takes half
            of the memory. By default the vectors have the type of the decomposition, float32 or
            wider, and a held gradient that of its weight.

    Returns:
        The transformation; ``update`` needs ``params``. Its state holds the last value of the
        penalty and of each layer (:class:`SpectralPenaltyState`). Where ``optax.masked`` or
        ``optax.partition`` leave it nothing to penalize, it adds nothing, and warns if they leave
        it leaves of which none is a matrix.

    Raises:
        TypeError: If the metric is not a function, the strength not a number or ``state_dtype`` not
            a floating-point type.
        ValueError: If the strength is not finite, ``every`` < 1, ``conv`` or ``tracking`` is
            unknown or they do not go together. ``init`` and ``update`` raise as
            :func:`spectral_penalty` does, and if a pattern of the strength matches no leaf, a leaf
            matches no pattern, the updates lack a selected leaf, or the state was made for
            something else.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> optimizer = optax.chain(
        ...     sr.add_spectral_penalty(sr.log_stable_rank, 1e-3), optax.sgd(0.1, momentum=0.9)
        ... )
        >>> params = {"fc1": {"kernel": jnp.diag(jnp.array([2.0, 1.0]))}}
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update({"fc1": {"kernel": jnp.zeros((2, 2))}}, state, params)
        >>> print(f"{state[0].penalty:.4f}")
        0.2231

    Cost: the penalty and its gradient at each n-th step; memory for one gradient of the selected
    leaves where ``every`` > 1.
    """
    metric, mask, conv = unpacked(metric), unpacked(mask), unpacked(conv)
    check_metric(metric)
    check_strength(strength)
    check_conv(conv)
    every = check_every(every)
    if tracking not in ("exact", "warm", "tail"):
        raise ValueError(f"tracking is {tracking!r}; expected exact, warm or tail")
    if state_dtype is not None and not jnp.issubdtype(jnp.dtype(state_dtype), jnp.floating):
        raise TypeError(
            f"state_dtype is {state_dtype!r}; expected a floating-point type, such as 'bfloat16'"
        )
    is_tracked = tracking != "exact"
    if is_tracked and isinstance(conv, ConvOperator):
        raise ValueError(
            f"tracking is {tracking!r} and conv is conv_operator{conv.size}, whose spectrum is not "
            "tracked; expected tracking='exact', with every=10 where the cost matters"
        )
    if is_tracked or isinstance(conv, ConvOperator) or conv == "pooled":
        function_of_eigenvalues(metric)  # refuses a plain function
    metric, name_of_metric = resolved(metric), metric_name(metric)
    if tracking == "tail":
        check_tail(metric)
    # A norm that is followed costs two passes over W, as much as to add a gradient that is held.
    is_cheap = is_tracked and isinstance(metric, NormMetric)
    is_held = not is_cheap and (isinstance(every, jax.Array) or every > 1)

    def start(leaves: Leaves, axes: ResolvedAxes) -> Vectors:
        if not (leaves and is_tracked):
            return {}
        return no_tracking(leaves, metric, conv, axes, tracking, state_dtype)

    follow = partial(follow_layers, metric=metric, conv=conv, tracking=tracking)

    def init(params: PyTree) -> SpectralPenaltyState:
        if is_placeholder(params):
            by_path: Any = jnp.zeros(())
            return SpectralPenaltyState(
                count=jnp.zeros((), jnp.int32),
                penalty=jnp.zeros(()),
                values={name_of_metric: by_path},
                gradient=params if is_held else optax.MaskedNode(),
                vectors=by_path if is_tracked else {},
            )
        leaves, axes_of = select_part(params, mask, axes, "add_spectral_penalty")
        strengths_at(strength, leaves, jnp.zeros((), jnp.int32))

        def results(leaves: Leaves) -> tuple[jax.Array, Leaves, Vectors]:
            vectors = start(leaves, axes_of)
            penalty, values, *_ = follow(leaves, vectors, axes_of, with_gradient=False)
            return penalty, values, vectors

        penalty, values, vectors = zeros_of(results, leaves)
        return SpectralPenaltyState(
            count=jnp.zeros((), jnp.int32),
            penalty=penalty,
            values={name_of_metric: values},
            gradient=zeros_where(params, by_source(leaves), state_dtype)
            if is_held
            else optax.MaskedNode(),
            vectors=vectors,
        )

    def update(
        updates: PyTree, state: SpectralPenaltyState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, SpectralPenaltyState]:
        del extra
        check_params(params)
        leaves, axes_of = select_part(params, mask, axes, "add_spectral_penalty")
        weights = by_source(leaves)
        check_updates(updates, weights)
        check_values(state.values, [name_of_metric], "another metric")
        check_fits("gradient", state.gradient, weights if is_held else {})
        check_fits(
            "vectors",
            state.vectors,
            jax.eval_shape(lambda leaves: start(leaves, axes_of), leaves),
        )

        def recompute() -> tuple[jax.Array, dict[str, Leaves], Leaves, Vectors]:
            penalty, values, gradient, vectors = follow(leaves, state.vectors, axes_of)
            penalty, values = jax.tree.map(sharding.replicated, (penalty, values))
            penalty = penalty.astype(state.penalty.dtype)
            return penalty, {name_of_metric: values}, by_source(gradient), vectors

        if is_held:
            held = (state.penalty, state.values, named_leaves(state.gradient), state.vectors)
            due = state.count % every == 0
            penalty, values, gradient, vectors = renewed(due, recompute, held)
        else:
            penalty, values, gradient, vectors = recompute()
        strengths = strengths_at(strength, leaves, state.count)
        strength_of = {
            source: strengths[name]
            for name, leaf in leaves.items()
            for source in by_source({name: leaf})
        }

        def add(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
            name = path_name(path)
            if name not in gradient:
                return update
            # In mixed precision the weights and the schedule may be of other types.
            step = gradient[name].astype(update.dtype)
            return update + jnp.asarray(strength_of[name], update.dtype) * step

        return jax.tree.map_with_path(add, updates), SpectralPenaltyState(
            count=optax.safe_increment(state.count),
            penalty=penalty,
            values=values,
            gradient=filled(state.gradient, gradient) if is_held else state.gradient,
            vectors=vectors,
        )

    return optax.GradientTransformationExtraArgs(init, update)
