"""Clauset, Shalizi and Newman's choice of xmin, frozen or softened, as estimators of alpha."""

import jax
import jax.numpy as jnp

from ._alpha import MAX_ALPHA, Estimator, hill_exponents
from ._metrics import rank_tolerance, relative

# Fits this flat are passed over, as powerlaw does: it drops those within 0.01 of its bound 1.01.
MIN_SLOPE = 0.02


def _every_fit(eigenvalues: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Alpha and Kolmogorov-Smirnov distance with each eigenvalue from the second on as xmin.

    The distance is infinite where the eigenvalue is no candidate: one of the two largest values,
    not the last of equal ones, or zero.
    """
    eigenvalues, num_eigenvalues = relative(eigenvalues), eigenvalues.shape[-1]
    alphas = hill_exponents(eigenvalues, 2, num_eigenvalues)
    floor = rank_tolerance(eigenvalues)
    log_values = jnp.log(jnp.maximum(eigenvalues, jnp.where(floor > 0, floor, 1)))
    in_tail = jnp.arange(num_eigenvalues)[None, :] <= jnp.arange(1, num_eigenvalues)[:, None]
    excess = log_values[..., None, :] - log_values[..., 1:, None]
    # Left out before the exponential, which overflows below xmin: 0 times infinity is NaN.
    in_tail = jnp.broadcast_to(in_tail, excess.shape)
    model = -jnp.expm1(-(alphas - 1)[..., :, None] * jnp.where(in_tail, excess, 0))

    at_least = jnp.sum(eigenvalues[..., None, :] >= eigenvalues[..., :, None], axis=-1)
    tail_sizes = jnp.arange(2, num_eigenvalues + 1, dtype=eigenvalues.dtype)[:, None]
    tail_sizes = jnp.broadcast_to(tail_sizes, model.shape)
    below = 1 - at_least[..., None, :].astype(eigenvalues.dtype) / tail_sizes
    deviations = jnp.where(in_tail, jnp.abs(model - below), 0)
    # The derivative of jnp.max compares with the maximum, which a compiled program may round in
    # another way: where nothing is equal to it, 0 / 0.
    furthest = jnp.argmax(jax.lax.stop_gradient(deviations), axis=-1, keepdims=True)
    distances = jnp.take_along_axis(deviations, furthest, axis=-1)[..., 0]

    is_new = jnp.concatenate(
        [jnp.ones_like(floor, bool), eigenvalues[..., 1:] < eigenvalues[..., :-1]], axis=-1
    )
    num_distinct = jnp.cumsum(is_new, axis=-1)[..., 1:]
    last_of_equals = at_least[..., 1:] == jnp.broadcast_to(
        jnp.arange(2, num_eigenvalues + 1), alphas.shape
    )
    candidate = (num_distinct >= 3) & last_of_equals & (eigenvalues[..., 1:] > floor)
    candidate &= (alphas - 1 >= MIN_SLOPE) & (alphas < MAX_ALPHA)
    return alphas, jnp.where(candidate, distances, jnp.inf)


def _check_size(eigenvalues: jax.Array) -> None:
    if eigenvalues.shape[-1] < 3:
        raise ValueError(
            f"the spectrum has {eigenvalues.shape[-1]} eigenvalues; expected at least 3 to search "
            "xmin among; use hill or smooth_hill"
        )


def frozen_csn() -> Estimator:
    r"""The exact fit of Clauset, Shalizi and Newman, its gradient with xmin held fixed.

    .. math:: \alpha = 1 + k^* \Big/ \sum_{i \le k^*} \ln(\lambda_i / \lambda_{k^*}), \quad
        k^* = \arg\min_k D_k

    D_k is the one-sided Kolmogorov-Smirnov distance of ``fitting.fit_power_law``, which this equals
    up to rounding: where two tails fit alike, float32 may choose the other one.

    Returns:
        A function of eigenvalues ``[..., M]``, descending, that gives alpha ``[...]``.

    Raises:
        ValueError: If the spectrum has fewer than three eigenvalues.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> eigenvalues = jnp.arange(1.0, 201) ** -0.5  # density l^-3
        >>> print(f"{sr.frozen_csn()(eigenvalues):.1f}")
        3.0

    It jumps where the best xmin does. Constant spectrum: 100, gradient 0.
    Cost: M^2 exponentials and as much memory, for value and gradient.

    References:
        Clauset, Shalizi and Newman, Power-law distributions in empirical data, 2009, Section 3.3.
    """

    def estimator(eigenvalues: jax.Array) -> jax.Array:
        _check_size(eigenvalues)
        alphas, distances = _every_fit(eigenvalues)
        best = jnp.argmin(jax.lax.stop_gradient(distances), axis=-1, keepdims=True)
        chosen = jnp.take_along_axis(alphas, best, axis=-1)[..., 0]
        return _or_no_tail(chosen, jnp.any(jnp.isfinite(distances), axis=-1), eigenvalues)

    return estimator


def soft_csn(temperature: float = 0.02) -> Estimator:
    r"""The fit of Clauset, Shalizi and Newman with a soft choice of xmin.

    .. math:: \alpha = \sum_k w_k \alpha_k, \quad w_k \propto e^{-D_k / T}

    It tends to :func:`frozen_csn` as the temperature T falls, and gives up its jumps for a bias
    towards the tails that fit almost as well.

    Args:
        temperature: Difference of Kolmogorov-Smirnov distances that counts, above 0.

    Returns:
        A function of eigenvalues ``[..., M]``, descending, that gives alpha ``[...]``.

    Raises:
        ValueError: If the temperature is not above 0, or the spectrum has fewer than three
            eigenvalues.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> eigenvalues = jnp.arange(1.0, 201) ** -0.5  # density l^-3
        >>> print(f"{sr.soft_csn()(eigenvalues):.1f}")
        3.1

    Constant spectrum: 100, gradient 0. Cost: as :func:`frozen_csn`.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0")

    def estimator(eigenvalues: jax.Array) -> jax.Array:
        _check_size(eigenvalues)
        alphas, distances = _every_fit(eigenvalues)
        usable = jnp.isfinite(distances)
        any_usable = jnp.any(usable, axis=-1, keepdims=True)
        fits = jnp.where(usable, -distances, 0) / temperature
        weights = jax.nn.softmax(fits, axis=-1, where=usable | ~any_usable)
        # Infinite distances have no weight, and their alphas may be capped: leave them out.
        soft = jnp.sum(jnp.where(usable, weights * alphas, 0), axis=-1)
        return _or_no_tail(soft, any_usable[..., 0], eigenvalues)

    return estimator


def _or_no_tail(alpha: jax.Array, any_usable: jax.Array, eigenvalues: jax.Array) -> jax.Array:
    # No comparison is true of NaN, so that a spectrum of it looks like one without a tail.
    none = jnp.where(jnp.isnan(jnp.sum(eigenvalues, axis=-1)), jnp.nan, MAX_ALPHA)
    return jnp.where(any_usable & ~jnp.isnan(none), alpha, none)
