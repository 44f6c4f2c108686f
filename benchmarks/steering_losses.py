"""Losses that ask a spectrum for a power law: ours, targets of a number, and relatives of ours."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import spectral_reg as sr
from spectral_reg._spectral_metric import tail_size

Metric = Callable[[jax.Array], jax.Array]
RECOMMENDED = "power_law_distance"


def _target(estimator: Callable[[jax.Array], jax.Array]) -> Callable[[float], Metric]:
    return lambda alpha: sr.target(sr.spectral_metric(estimator), alpha)


def _quantile_loss(
    positions: Callable[[np.ndarray], np.ndarray],
    *,
    power: float = 0.0,
    absolute: bool = False,
    fraction: float = 0.5,
) -> Callable[[float], Metric]:
    """The distance of the log spectrum from other quantiles of the law, or weighed otherwise.

    Args:
        positions: From ranks 1 to k to what ln l_i is linear in.
        power: Weight i^power: 1 is the inverse variance of the i-th largest of a sample, 2 makes
            the distance one of probabilities, as Cramer-von Mises and CSN's are.
        absolute: The mean of the distances, not of their squares.
        fraction: Share of the spectrum.
    """

    def loss(alpha: float) -> Metric:
        @sr.spectral_metric
        def distance(eigenvalues: jax.Array) -> jax.Array:
            size = tail_size(fraction, eigenvalues.shape[-1])
            ranks = np.arange(1, size + 1)
            weights = jnp.asarray(ranks**power / np.sum(ranks**power), eigenvalues.dtype)
            x = jnp.asarray(positions(ranks) / (alpha - 1), eigenvalues.dtype)
            residuals = jnp.log(eigenvalues[..., :size]) - x
            if absolute:
                centre = jnp.median(residuals, axis=-1, keepdims=True)
                return jnp.sum(weights * jnp.abs(residuals - centre), axis=-1)
            centre = jnp.sum(weights * residuals, axis=-1, keepdims=True)
            return jnp.sum(weights * (residuals - centre) ** 2, axis=-1)

        return distance

    return loss


def _half(ranks: np.ndarray) -> np.ndarray:
    return -np.log(ranks - 0.5)


def _weibull(ranks: np.ndarray) -> np.ndarray:
    return -np.log(ranks / (len(ranks) + 1))


def _expected(ranks: np.ndarray) -> np.ndarray:
    return np.cumsum(1 / ranks[::-1])[::-1]


def _interval(ranks: np.ndarray) -> np.ndarray:
    """Means of -ln u between (i - 1) / k and i / k: the 2-Wasserstein distance from the law."""
    edges = np.concatenate([[0], ranks]) / len(ranks)
    # The integral of -ln u is u - u ln u.
    integral = edges - edges * np.log(np.where(edges > 0, edges, 1))
    return len(ranks) * np.diff(integral)


def _softplus_hill(eigenvalues: jax.Array) -> jax.Array:
    """Hill's estimator with a soft threshold, at the median and as wide as a tenth in ln l."""
    log_values = jnp.log(eigenvalues)
    threshold, width = jnp.median(log_values, axis=-1, keepdims=True), 0.1
    above = (log_values - threshold) / width
    count = jnp.sum(jax.nn.sigmoid(above), axis=-1)
    return 1 + count / (width * jnp.sum(jax.nn.softplus(above), axis=-1))


LOSSES: dict[str, Callable[[float], Metric]] = {
    RECOMMENDED: sr.power_law_distance,
    "power_law_distance, fraction=0.25": lambda a: sr.power_law_distance(a, fraction=0.25),
    "power_law_distance, band=1": lambda a: sr.power_law_distance(a, band=1.0),
    "target of smooth_hill()": _target(sr.smooth_hill()),
    "target of smooth_hill(low=0.01)": _target(sr.smooth_hill(low=0.01)),
    "target of hill()": _target(sr.hill()),
    "target of rank_regression()": _target(sr.rank_regression()),
    "target of soft_csn()": _target(sr.soft_csn()),
    "target of frozen_csn()": _target(sr.frozen_csn()),
    "weights i": _quantile_loss(_half, power=1),
    "weights i^2": _quantile_loss(_half, power=2),
    "positions i / (k + 1)": _quantile_loss(_weibull),
    "positions of the mean": _quantile_loss(_expected),
    "2-Wasserstein": _quantile_loss(_interval),
    "1-Wasserstein": _quantile_loss(_half, absolute=True),
    "target of Hill, softplus mask": _target(_softplus_hill),
}
