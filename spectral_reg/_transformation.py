"""Spectral penalties as an Optax transformation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._axes import MatrixAxes
from ._axes_argument import Axes
from ._conv_operator import ConvOperator
from ._layers import Conv
from ._penalty import check_number, spectral_penalty
from ._reading import select_layers
from ._reparametrized import by_source
from ._spectral_metric import Metric
from ._tracked_penalty import start_tracking, tracked_penalty
from ._trees import Mask, PyTree, path_name

Leaves = dict[str, jax.Array]


class SpectralPenaltyState(NamedTuple):
    """State of :func:`add_spectral_penalty`.

    Attributes:
        count: Steps taken.
        penalty: Last value of the penalty, without the strength.
        gradient: Its last gradient, by path, where ``every`` > 1 holds it between; else empty.
        vectors: Singular vectors by path, where ``tracking="warm"`` follows them; else empty.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    penalty: jax.Array
    gradient: dict[str, jax.Array]
    vectors: dict[str, jax.Array]


def add_spectral_penalty(
    metric: Metric,
    strength: float | Callable[[jax.Array], jax.Array],
    *,
    mask: Mask = None,
    conv: Conv = "slices",
    axes: Axes = None,
    every: int = 1,
    tracking: str = "exact",
) -> optax.GradientTransformationExtraArgs:
    """Adds the gradient of a spectral penalty to the updates.

    ``updates + strength * grad(spectral_penalty(params, metric))``

    Before the optimizer it is what the penalty in the loss would be. After it, with a negative
    strength scaled like the learning rate, the penalty is decoupled, in the manner of
    ``optax.add_decayed_weights``.

    ``optax.inject_hyperparams(lambda strength: sr.add_spectral_penalty(metric, strength))`` makes a
    strength that can be set between steps, without a new trace. (Without the lambda, its
    ``static_args`` must name metric, mask, every and a :func:`conv_operator` given as conv.)

    Args:
        metric: From ``[..., rows, cols]`` to ``[...]``, such as :func:`log_stable_rank`.
        strength: Weight of the penalty, or a schedule of the step count. Negative raises the
            metric; :func:`target` and :func:`hinge` do that with a bound.
        mask: Which leaves, as for :func:`layer_matrices`.
        conv: As for :func:`spectral_penalty`; ``tracking="warm"`` takes no :func:`conv_operator`.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.
        every: Recompute at each n-th step, and add the last gradient again on the steps between.
        tracking: ``"exact"``, one eigendecomposition a matrix; or ``"warm"``, which keeps singular
            vectors in the state and follows them with products alone: by conjugate gradients for
            metrics of the norms (:func:`norm_metric`), by damped Jacobi rotations for the others,
            with a decomposition only where the weights have moved too far in one step.
            Tracked eigenvalues below 1e-7 of the largest are noise. Over 1,000 steps of MiniAlexNet
            on CIFAR-10 at b = 32, alpha stayed within 1e-5 of its exact value with a gradient of
            cosine 0.999 or more; at every second or fifth step, of 0.998 or more. With ``every``
            the steps between reuse the last gradient, which falls behind: after one step alpha
            was off by up to 0.05 and the cosine was 0.988 or more, after four 0.21 and 0.978.

    Returns:
        The transformation. Its state holds the last value of the penalty; ``update`` needs
        ``params``.

    Raises:
        ValueError: If the strength is not finite, ``every`` < 1, ``tracking`` is unknown or does
            not go with ``conv``, or as for :func:`spectral_penalty`.

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

    Cost: that of the penalty and its gradient each n-th step; memory of one gradient of the
    selected leaves where ``every`` > 1.
    """
    if not callable(strength):
        check_number("strength", strength)
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every is {every!r}; expected a whole number of at least 1")
    if tracking not in ("exact", "warm"):
        raise ValueError(f"tracking is {tracking!r}; expected exact or warm")
    if tracking == "warm" and isinstance(conv, ConvOperator):
        raise ValueError(
            f"tracking is 'warm' and conv is conv_operator{conv.size}, whose spectrum is not "
            "tracked; expected tracking='exact', with every=10 where the cost matters"
        )

    def penalty_of(
        leaves: Leaves, vectors: Leaves, axes: dict[str, MatrixAxes]
    ) -> tuple[jax.Array, Leaves]:
        if tracking == "warm":
            return tracked_penalty(leaves, vectors, metric, conv, axes)
        mask = dict.fromkeys(leaves, True)
        return spectral_penalty(leaves, metric, mask=mask, conv=conv, axes=axes), vectors

    def init(params: PyTree) -> SpectralPenaltyState:
        leaves, resolved = select_layers(params, mask, axes)
        vectors = start_tracking(leaves, metric, conv, resolved) if tracking == "warm" else {}
        value = functools.partial(penalty_of, axes=resolved)
        penalty, _ = jax.eval_shape(value, leaves, vectors)
        return SpectralPenaltyState(
            count=jnp.zeros((), jnp.int32),
            penalty=jnp.zeros(penalty.shape, penalty.dtype),
            gradient=jax.tree.map(jnp.zeros_like, leaves) if every > 1 else {},
            vectors=vectors,
        )

    def update(
        updates: PyTree, state: SpectralPenaltyState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, SpectralPenaltyState]:
        del extra
        if params is None:
            raise ValueError(
                "params is None; expected the parameters: call update(updates, state, params)"
            )
        leaves, resolved = select_layers(params, mask, axes)

        def recompute(leaves: Leaves, vectors: Leaves) -> tuple[jax.Array, Leaves, Leaves]:
            value = jax.value_and_grad(functools.partial(penalty_of, axes=resolved), has_aux=True)
            (penalty, vectors), gradient = value(leaves, vectors)
            return penalty, gradient, vectors

        if every == 1:
            penalty, gradient, vectors = recompute(leaves, state.vectors)
        else:
            penalty, gradient, vectors = jax.lax.cond(
                state.count % every == 0,
                recompute,
                lambda _, vectors: (state.penalty, state.gradient, vectors),
                leaves,
                state.vectors,
            )
        weight = strength(state.count) if callable(strength) else strength
        of_leaf = by_source(gradient)

        def add(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
            name = path_name(path)
            if name not in of_leaf:
                return update
            # In mixed precision the weights and the schedule may be of other types.
            step = of_leaf[name].astype(update.dtype)
            return update + jnp.asarray(weight, update.dtype) * step

        return jax.tree.map_with_path(add, updates), SpectralPenaltyState(
            count=optax.safe_increment(state.count),
            penalty=penalty,
            gradient=gradient if every > 1 else {},
            vectors=vectors,
        )

    return optax.GradientTransformationExtraArgs(init, update)
