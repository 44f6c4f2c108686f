"""Learning rates and weight decays layer by layer, from the spectra of the weights."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._alpha import hill
from ._axes_argument import Axes
from ._by_layer_factors import by_layer_factors
from ._hyperparameters import unpacked
from ._layer_factors import Ratio, check_dealing, factors_of
from ._layers import Conv
from ._penalty import check_number
from ._spectral_metric import Metric, spectral_metric
from ._trees import Mask


@spectral_metric
def hill_alpha(eigenvalues: jax.Array) -> jax.Array:
    """The exponent that TempBalance, AlphaDecay and LLR read: xmin is the median eigenvalue."""
    return hill(0.5)(eigenvalues)


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
        TypeError: If ``groups`` is no function to names, ``permute_layers`` no random key, or as
            for :func:`layer_spectra`.

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
    others. A layer of zeros, or whose metric is not finite, has the factor 1 and affects no other;
    the state counts such layers. ``optax.inject_hyperparams`` takes a ratio or groups of your own
    for schedules, unless it is given ``static_args=("ratio", "groups")``.

    References:
        As for :func:`linear_ratio`.
    """
    check_dealing(groups, permute_layers)
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

    return by_layer_factors(
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
        TypeError: As for :func:`scale_by_layer_spectra`.

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

    check_dealing(groups, permute_layers)
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

    return by_layer_factors(
        decay, deal, metric, every, transition, mask, conv, axes, of_sources=False
    )
