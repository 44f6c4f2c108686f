"""The four distributions that a tail is compared with, at their maximum likelihood.

Each function takes y = ln(l / xmin) of a tail and returns the log-density of each y and the
parameters by powerlaw's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Least alpha - 1 of the truncated power law: below, it is a gamma law that ends any spectrum.
MIN_SLOPE = 0.01


def _truncated_power_law(
    logs: NDArray[np.float64], xmin: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """p(y) ~ exp(-a y - w (e^(y - top) - e^-top)): alpha = 1 + a, Lambda = w e^-top / xmin."""
    top = float(logs.max())
    offset = math.exp(-top)
    # scaled by the largest, so that nothing overflows at any range
    scaled = np.exp(logs - top) - offset
    power_law_slope = 1 / float(np.mean(logs))
    x = _minimize_truncated(1 / power_law_slope, float(np.mean(scaled)), top)
    if x is None:  # no better than without truncation, which it contains
        return math.log(power_law_slope) - power_law_slope * logs, {
            "alpha": 1 + power_law_slope,
            "Lambda": 0.0,
        }
    slope, weight = x
    densities = -slope * logs - weight * scaled - _truncated_moments(np.array(x), top)[0]
    return densities, {"alpha": 1 + slope, "Lambda": weight * offset / xmin}


def _minimize_truncated(
    mean_log: float, mean_scaled: float, top: float
) -> tuple[float, float] | None:
    """Newton's method for the two parameters of the truncated power law; None at no truncation.

    The negative log-likelihood of an exponential family is convex, its Hessian the covariance of
    the statistics, so a damped step always descends.
    """
    means = np.array([mean_log, mean_scaled])
    x = np.array([max(0.5 / mean_log, MIN_SLOPE), 0.5 / mean_scaled])
    log_norm, expected, covariance = _truncated_moments(x, top)
    value = log_norm + float(x @ means)
    for _ in range(200):
        gradient = means - expected
        if np.linalg.det(covariance) <= 1e-14 * covariance[0, 0] * covariance[1, 1]:
            break  # so short a tail that slope and cut-off are one to rounding
        step = -np.linalg.solve(covariance, gradient)
        if x[0] + step[0] < MIN_SLOPE:  # the best along this bound, to second order
            step[0] = MIN_SLOPE - x[0]
            step[1] = -(gradient[1] + covariance[0, 1] * step[0]) / covariance[1, 1]
        size = 1.0
        for _ in range(60):
            trial = x + size * step
            if trial[1] > 0.05 * x[1]:
                log_norm, expected, covariance = _truncated_moments(trial, top)
                trial_value = log_norm + float(trial @ means)
                if trial_value <= value:
                    break
            size /= 2
        else:
            break  # no descent is left in rounding
        decrease, x, value = value - trial_value, trial, trial_value
        if decrease < 1e-15 or x[1] < 1e-8:
            break
    without = 1 + math.log(mean_log)
    return (float(x[0]), float(x[1])) if value < without else None


NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def _truncated_moments(
    x: NDArray[np.float64], top: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Log normalizer, means and covariance of (y, s) under p(y) ~ exp(-x_0 y - x_1 s), y >= 0.

    Here s = e^(y - top) - e^-top. Gauss-Legendre on panels that are short against both the decay
    and the cut-off.
    """
    slope, weight = float(x[0]), float(x[1])
    offset = math.exp(-top)
    end = min(45 / slope, top + math.log(45 / weight + offset))
    panels = max(8, math.ceil(end / 2))
    half = end / panels / 2
    y = ((half * (2 * np.arange(panels) + 1))[:, np.newaxis] + half * NODES).ravel()
    scaled = np.exp(y - top) - offset
    mass = np.exp(-slope * y - weight * scaled) * np.tile(half * WEIGHTS, panels)
    total = float(np.sum(mass))
    mass /= total
    statistics = np.stack([y, scaled])
    expected = statistics @ mass
    centred = statistics - expected[:, np.newaxis]
    return math.log(total), expected, (centred * mass) @ centred.T


def _exponential(
    logs: NDArray[np.float64], xmin: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """p(y) = rate e^y exp(-rate (e^y - 1)), with rate = Lambda xmin."""
    top = float(logs.max())
    scaled = np.exp(logs - top) - math.exp(-top)
    rate = 1 / float(np.mean(scaled))  # in units of the largest
    return math.log(rate) - top + logs - rate * scaled, {"Lambda": rate * math.exp(-top) / xmin}


def _stretched_exponential(
    logs: NDArray[np.float64], xmin: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """p(y) = beta rate e^(beta y) exp(-rate (e^(beta y) - 1)), with rate = (Lambda xmin)^beta.

    The best rate of each beta is known, 1 / mean(e^(beta y) - 1), so one dimension is left. As beta
    goes to zero this is the power law.
    """
    from scipy.optimize import minimize_scalar

    mean_log, top = float(np.mean(logs)), float(logs.max())

    def cost(log_beta: float) -> float:
        beta = math.exp(log_beta)
        return math.log(float(np.mean(np.expm1(beta * logs)))) - log_beta - beta * mean_log

    # in units of 1/top the exponents stay in range; below 1e-6 it is the power law to rounding
    log_beta = minimize_scalar(
        cost,
        bounds=(math.log(1e-6 / top), math.log(600 / top)),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    beta = math.exp(log_beta)
    growth = np.expm1(beta * logs)
    rate = 1 / float(np.mean(growth))
    densities = math.log(beta) + math.log(rate) + beta * logs - rate * growth
    log_lambda = math.log(rate) / beta - math.log(xmin)
    return densities, {"Lambda": math.exp(min(log_lambda, 709.0)), "beta": beta}


def _lognormal(
    logs: NDArray[np.float64], xmin: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Of y a normal law, cut off below 0: u standard deviations above its centre.

    With h = pdf(u) / P(> u), mean(y) = sigma (h - u) and mean(y^2) = sigma^2 (1 + u^2 - u h). Thus
    mean(y^2) / mean(y)^2 is a function of u alone, rising from 1 to 2, where it is the power law:
    the likelihood has its maximum where this meets the sample's.
    """
    from scipy.optimize import brentq
    from scipy.special import erfcx, log_ndtr

    mean_log, mean_square = float(np.mean(logs)), float(np.mean(logs**2))
    ratio = mean_square / mean_log**2

    def hazard(u: float) -> float:
        return math.sqrt(2 / math.pi) / float(erfcx(u / math.sqrt(2)))

    def excess(u: float) -> float:
        h = hazard(u)
        return (1 + u * u - u * h) / (h - u) ** 2 - ratio

    lowest, highest = -1e6, 100.0
    if excess(highest) <= 0:
        u = highest
    elif excess(lowest) >= 0:
        u = lowest
    else:
        u = brentq(excess, lowest, highest, xtol=1e-12, rtol=1e-14)
    sigma = mean_log / (hazard(u) - u)
    densities = (
        -0.5 * (logs / sigma + u) ** 2
        - math.log(sigma)
        - 0.5 * math.log(2 * math.pi)
        - float(log_ndtr(-u))
    )
    return densities, {"mu": math.log(xmin) - u * sigma, "sigma": sigma}


ALTERNATIVES: dict[
    str,
    Callable[[NDArray[np.float64], float], tuple[NDArray[np.float64], dict[str, float]]],
] = {
    # the order is that of the papers' rule
    "truncated_power_law": _truncated_power_law,
    "exponential": _exponential,
    "stretched_exponential": _stretched_exponential,
    "lognormal": _lognormal,
}
