"""Logarithms of eigenvalues against those of their ranks: the slope, and what a line leaves."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._alpha import MAX_ALPHA, Estimator, reading
from ._metrics import rank_tolerance, relative
from ._spectral_metric import SpectralMetric, check_fraction, spectral_metric, tail_size


class _Tail(NamedTuple):
    """A tail's two logarithms ``[..., k]``, each centred, and 0 where an eigenvalue is zero."""

    log_values: jax.Array
    log_ranks: jax.Array  # -ln(i - 1/2), which is linear in ln l_i for a power law
    size: jax.Array  # [..., 1], of eigenvalues above zero

    def slope(self) -> jax.Array:
        """1 / (alpha - 1) of the nearest power law ``[..., 1]``; 0 where there is no spread."""
        square = jnp.sum(self.log_ranks**2, axis=-1, keepdims=True)
        product = jnp.sum(self.log_ranks * self.log_values, axis=-1, keepdims=True)
        return product / jnp.where(square > 0, square, 1)


def _size(fraction: float, num_eigenvalues: int) -> int:
    if num_eigenvalues < 3:
        raise ValueError(
            f"fraction is {fraction}; expected a tail of at least 3 eigenvalues, and this spectrum "
            f"has {num_eigenvalues}; leave matrices of fewer rows or columns out with a mask"
        )
    return max(3, tail_size(fraction, num_eigenvalues))


def _log_ranks(size: int) -> np.ndarray:
    return -np.log(np.arange(1, size + 1) - 0.5)


def _tail(eigenvalues: jax.Array, fraction: float) -> _Tail:
    eigenvalues = jnp.asarray(eigenvalues)
    # Relative to the largest: what a constant adds is taken out again, and so costs no digits.
    eigenvalues = relative(eigenvalues.astype(np.promote_types(eigenvalues.dtype, jnp.float32)))
    size = _size(fraction, eigenvalues.shape[-1])
    largest = eigenvalues[..., :size]
    # Zeros have no logarithm: they are no part of the tail, as in the exact fit. Not `largest >`,
    # which would take NaN for zero.
    above = ~(largest <= jax.lax.stop_gradient(rank_tolerance(eigenvalues)))
    count = jnp.maximum(jnp.sum(above, axis=-1, keepdims=True), 1).astype(eigenvalues.dtype)

    def centred(values: jax.Array) -> jax.Array:
        values = jnp.where(above, values, 0)
        return jnp.where(above, values - jnp.sum(values, axis=-1, keepdims=True) / count, 0)

    ranks = jnp.asarray(_log_ranks(size), eigenvalues.dtype)
    return _Tail(
        centred(jnp.log(jnp.where(above, largest, 1))),
        centred(jnp.broadcast_to(ranks, above.shape)),
        count,
    )


def rank_regression(fraction: float = 0.5) -> Estimator:
    r"""Alpha from the slope of the logarithms of the eigenvalues against those of their ranks.

    .. math:: \alpha = 1 + 1 / b, \quad \ln \lambda_i \approx c - b \ln(i - \tfrac12),
        \quad i \le k = \max(3, M - \lfloor (1 - f) M \rfloor)

    b by least squares. Every eigenvalue of the tail carries gradient, in proportion to how far its
    logarithmic rank lies from the mean. The shift of one half removes the bias of a small tail.

    Args:
        fraction: Share f of the eigenvalues that make the tail, in (0, 1].

    Returns:
        A function of eigenvalues ``[..., M]``, descending, that gives alpha ``[...]``.

    Raises:
        ValueError: If the fraction is outside (0, 1], or the spectrum has fewer than three
            eigenvalues.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> eigenvalues = (jnp.arange(1.0, 1001) - 0.5) ** -0.5  # density l^-3
        >>> print(f"{sr.rank_regression()(eigenvalues):.2f}")
        3.00

    Constant tail: 100, gradient 0. Zero eigenvalues (below the rank tolerance of
    :func:`matrix_entropy`) are left out, as by ``fitting.fit_power_law``.

    References:
        Gabaix and Ibragimov, Rank - 1/2: a simple way to improve the OLS estimation of tail
        exponents, 2011. (They regress the ranks on the values; here it is the values on the ranks,
        as in Kratz and Resnick, The QQ-estimator and heavy tails, 1996.)
    """
    check_fraction("fraction", fraction)

    def estimator(eigenvalues: jax.Array) -> jax.Array:
        slope = _tail(eigenvalues, fraction).slope()[..., 0]
        flat = slope < 1 / (MAX_ALPHA - 1)  # false of NaN
        return jnp.where(flat, MAX_ALPHA, 1 + 1 / jnp.where(flat, 1, slope))

    return reading(fraction, estimator)


def power_law_distance(
    alpha: float | None = None, *, fraction: float = 0.5, band: float = 0.0
) -> SpectralMetric:
    r"""How far the tail of a spectrum is from a power law: the loss that the exact fit confirms.

    .. math:: \frac1k \sum_{i \le k} r_i^2, \quad r_i = \ln \lambda_i - c +
        \frac{\ln(i - \tfrac12)}{\alpha - 1}, \quad c \text{ such that } \sum_i r_i = 0

    The mean squared distance of the logarithms of the k = max(3, M - floor((1 - f) M)) largest
    eigenvalues from those of the nearest power law of exponent alpha: nothing but its constant is
    free, so it is scale-free, and 0 where the tail is a power law. A target for a number
    (``target(alpha, 3.0)``) is met by spectra that are no power law; this loss only by power laws.
    Its derivative is 2 r_i / (k lambda_i): each eigenvalue of the tail is pulled to its own place.

    With a band, :math:`(\max(0, \rho - \rho_0))^2`, where rho is the root of the above and rho_0
    ``band`` times that of k independent samples of the law, in the mean square: for a given alpha
    :math:`\sqrt{(H_k - 1) / k} / (\alpha - 1)`, with H_k the harmonic number. Without one, the tail
    ends straighter than any sample is.

    Args:
        alpha: Exponent of the law, above 1. None takes the nearest law of any exponent.
        fraction: Share f of the eigenvalues that make the tail, in (0, 1].
        band: Distance within which there is no force, in units of that of true samples.

    Returns:
        A metric: ``[..., rows, cols]`` to ``[...]``.

    Raises:
        ValueError: If alpha is not above 1 and finite, the fraction is outside (0, 1], the band is
            negative or not finite, or a spectrum has fewer than three eigenvalues.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> singular_values = (jnp.arange(1.0, 101) - 0.5) ** -0.25  # density l^-3
        >>> for alpha in (2.0, 3.0):
        ...     print(f"{sr.power_law_distance(alpha)(jnp.diag(singular_values)):.3f}")
        0.232
        0.000

    Zero eigenvalues (below the rank tolerance of :func:`matrix_entropy`) are left out, as by
    ``fitting.fit_power_law``; a zero matrix has the distance 0, gradient 0. A constant tail is at a
    finite distance from every law but that of infinite alpha, which None takes: then 0, gradient 0.
    Where eigenvalues repeat, the gradient is one subgradient, and takes them apart.
    Cost and errors of the metric: those of :func:`spectral_metric`.

    References:
        Kratz and Resnick, The QQ-estimator and heavy tails, 1996. Gabaix and Ibragimov, Rank - 1/2,
        2011.
    """
    if alpha is not None and not (math.isfinite(alpha) and alpha > 1):
        raise ValueError(f"alpha is {alpha}; expected a finite number above 1, or None")
    if not (math.isfinite(band) and band >= 0):
        raise ValueError(f"band is {band}; expected a finite number of at least 0")
    check_fraction("fraction", fraction)

    def distance(eigenvalues: jax.Array) -> jax.Array:
        tail = _tail(eigenvalues, fraction)
        slope = tail.slope() if alpha is None else jnp.full_like(tail.size, 1 / (alpha - 1))
        residuals = tail.log_values - slope * tail.log_ranks
        square = jnp.sum(residuals**2, axis=-1) / tail.size[..., 0]
        if band == 0:
            return square
        sampled = sampled_distance(tail.log_ranks.shape[-1], free=alpha is None)
        # Held fixed, or a steeper tail would count as a nearer one.
        within = band * math.sqrt(sampled) * jax.lax.stop_gradient(slope[..., 0])
        outside = ~(square <= within**2)  # true of NaN
        root = jnp.sqrt(jnp.where(outside, square, 1))
        return jnp.where(outside, jnp.square(root - within), 0)

    distance.__name__ = distance.__qualname__ = "power_law_distance"
    return spectral_metric(distance, fraction=fraction, scale_free=True)


def sampled_distance(size: int, *, free: bool) -> float:
    """Mean squared distance of ``size`` samples of a power law of slope 1 from that law.

    Args:
        size: Number k of samples.
        free: Whether from the nearest law of any exponent, instead of from their own.
    """
    # ln l_i - c of samples is the i-th largest of k exponentials: of mean sum_{j>=i} 1/j and
    # covariance sum_{j>=max(i,i')} 1/j^2 (Renyi 1953).
    j = np.arange(1, size + 1)
    log_ranks = _log_ranks(size)
    log_ranks -= log_ranks.mean()
    means = np.cumsum(1 / j[::-1])[::-1]
    bias = means - means.mean() - log_ranks
    total = np.sum(1 / j) - 1 + bias @ bias
    if free:
        square = log_ranks @ log_ranks
        along = np.sum(np.cumsum(log_ranks) ** 2 / j**2) + (bias @ log_ranks) ** 2
        total -= along / square
    return float(total) / size
