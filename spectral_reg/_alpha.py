"""Smooth estimators of the power-law exponent of a spectrum."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ._metrics import rank_tolerance, relative, safe_log
from ._spectral_metric import check_fraction, spectral_metric, tail_size, top_fraction

Estimator = Callable[[jax.Array], jax.Array]

# Past this a tail has no spread that could be measured; value held, gradient 0.
MAX_ALPHA = 100.0


def reading(fraction: float, estimator: Estimator) -> Estimator:
    """The estimator, saying which share of the spectrum it reads; see ``top_fraction``."""
    estimator.fraction = fraction  # type: ignore[attr-defined]
    return estimator


def hill_exponents(eigenvalues: jax.Array, k_low: int, k_high: int) -> jax.Array:
    """Hill's alpha with the k largest eigenvalues as the tail, for k_low <= k <= k_high."""
    eigenvalues = relative(eigenvalues)
    top = eigenvalues[..., :1]
    # Zeros stand at the rank tolerance: it moves with lambda_max, so alpha stays scale-free.
    floor = jnp.where(top <= 0, 1, rank_tolerance(eigenvalues))
    log_tail = safe_log(jnp.maximum(eigenvalues[..., :k_high], floor))
    # sum_{i<=k} ln(l_i / l_k) = sum_{j<k} j ln(l_j / l_{j+1}): a sum of positive terms, so a
    # cumulative sum loses nothing to cancellation.
    gaps = log_tail[..., :-1] - log_tail[..., 1:]
    j = jnp.arange(1, k_high, dtype=gaps.dtype)
    log_sums = jnp.cumsum(jnp.broadcast_to(j, gaps.shape) * gaps, axis=-1)[..., k_low - 2 :]
    k = jnp.broadcast_to(jnp.arange(k_low, k_high + 1, dtype=gaps.dtype), log_sums.shape)
    return 1 + k / jnp.maximum(log_sums, k / (MAX_ALPHA - 1))


def hill(fraction: float = 0.5) -> Estimator:
    r"""Hill's estimator of alpha on a fixed fraction of the spectrum.

    .. math:: \alpha = 1 + k \Big/ \sum_{i \le k} \ln(\lambda_i / \lambda_k), \quad
        k = M - \lfloor (1 - f) M \rfloor

    The maximum-likelihood exponent with xmin = lambda_k, which counts among the k. One eigenvalue,
    lambda_k, carries half of its gradient; :func:`smooth_hill` spreads that out, at the same cost.

    Args:
        fraction: Share f of the eigenvalues that make the tail, in (0, 1]; at least two are used.

    Returns:
        A function of eigenvalues ``[..., M]``, descending, that gives alpha ``[...]``.

    Raises:
        ValueError: If the fraction is outside (0, 1], or the spectrum has a single eigenvalue.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> eigenvalues = jnp.arange(1.0, 1001) ** -0.5  # density l^-3
        >>> print(f"{sr.hill(0.5)(eigenvalues):.2f}")
        3.02

    Constant tail: 100, gradient 0. Zero eigenvalues stand at the rank tolerance of
    :func:`matrix_entropy`. It depends on the shape of W (for a random square matrix it is about
    2.1, at Q = 10.7 about 4.9), so it is never to be compared across shapes.

    References:
        Hill, A simple general approach to inference about the tail of a distribution, 1975.
        Zhou et al., Temperature Balancing, 2023 (fraction one half).
    """
    check_fraction("fraction", fraction)
    return smooth_hill(fraction, fraction)


def smooth_hill(low: float = 0.1, high: float = 0.5) -> Estimator:
    r"""Mean of Hill's estimators over a range of tail sizes: the default alpha.

    .. math:: \alpha = \frac{1}{k_2 - k_1 + 1} \sum_{k=k_1}^{k_2}
        \Big(1 + k \Big/ \sum_{i \le k} \ln(\lambda_i / \lambda_k)\Big)

    Every eigenvalue of the tail carries a share of the gradient, at the cost of one cumulative sum.

    Args:
        low: Smallest tail, as a fraction of the eigenvalues, in (0, 1].
        high: Largest tail, in [low, 1].

    Returns:
        A function of eigenvalues ``[..., M]``, descending, that gives alpha ``[...]``.

    Raises:
        ValueError: If the fractions are out of order or range, or the spectrum has a single
            eigenvalue.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> eigenvalues = jnp.arange(1.0, 1001) ** -0.5  # density l^-3
        >>> print(f"{sr.smooth_hill()(eigenvalues):.2f}")
        3.03

    Constant tail: 100, gradient 0. See :func:`hill` for zero eigenvalues and for shapes. A target
    for it leaves a shelf, which is no power law: to steer a tail, take :func:`power_law_distance`.
    """
    check_fraction("low", low)
    check_fraction("high", high)
    if low > high:
        raise ValueError(f"low is {low} and high is {high}; expected low <= high")

    def estimator(eigenvalues: jax.Array) -> jax.Array:
        num_eigenvalues = eigenvalues.shape[-1]
        if num_eigenvalues < 2:
            raise ValueError(
                "the spectrum has 1 eigenvalue; expected at least 2 for alpha; leave matrices of "
                "one row or column out with a mask"
            )
        sizes = (tail_size(fraction, num_eigenvalues) for fraction in (low, high))
        return jnp.mean(hill_exponents(eigenvalues, *sizes), axis=-1)

    return reading(high, estimator)


DEFAULT_ESTIMATOR = smooth_hill()


@functools.partial(spectral_metric, fraction=top_fraction(DEFAULT_ESTIMATOR), scale_free=True)
def alpha(eigenvalues: jax.Array, *, estimator: Estimator = DEFAULT_ESTIMATOR) -> jax.Array:
    r"""Exponent of the eigenvalue density, rho(l) ~ l^-alpha, smoothed.

    Args:
        W: Matrices ``[..., rows, cols]``.
        estimator: :func:`smooth_hill` (the default), :func:`hill`, :func:`rank_regression`,
            :func:`soft_csn` or :func:`frozen_csn`.

    Returns:
        ``[...]``, scale-free, in (1, 100].

    Example:
        >>> import jax, spectral_reg as sr
        >>> W = jax.random.normal(jax.random.key(0), (400, 100))
        >>> print(f"{sr.alpha(W, estimator=sr.hill(0.5)):.1f}")
        3.4

    Constant spectrum and zero matrix: 100, gradient 0. Exactly scale-free: the gradient is
    orthogonal to W. It depends on the shape of W; see :func:`hill`. Cost and errors: those of
    :func:`spectral_metric` and of the estimator.

    References:
        Martin and Mahoney, Universality and capacity metrics, Eq. 1.
    """
    return estimator(eigenvalues)


@functools.partial(spectral_metric, fraction=top_fraction(DEFAULT_ESTIMATOR))
def alpha_hat(eigenvalues: jax.Array, *, estimator: Estimator = DEFAULT_ESTIMATOR) -> jax.Array:
    r"""Weighted alpha of one matrix, alpha ln lambda_max.

    Over a model, ``reduce="sum"`` of :func:`spectral_penalty` gives the paper's Eq. 3 and
    ``reduce="mean"`` what the published tables use (there with log10).

    Args:
        W: Matrices ``[..., rows, cols]``.
        estimator: :func:`smooth_hill` (the default), :func:`hill`, :func:`rank_regression`,
            :func:`soft_csn` or :func:`frozen_csn`.

    Returns:
        ``[...]``. Where lambda_max < 1 it is negative, and a larger alpha then lowers it: to train,
        penalize alpha and the spectral norm apart.

    Example:
        >>> import jax, spectral_reg as sr
        >>> W = jax.random.normal(jax.random.key(0), (400, 100))
        >>> print(f"{sr.alpha_hat(W) / sr.alpha(W):.2f}")
        6.80

    Constant spectrum: 100 ln lambda_max; zero matrix: 100 ln of the type's smallest normal number,
    gradient 0. Cost and errors: those of :func:`alpha`.

    References:
        Martin and Mahoney, Universality and capacity metrics, Eq. 3.
    """
    return estimator(eigenvalues) * safe_log(eigenvalues[..., 0])
