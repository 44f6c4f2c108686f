"""The four distributions that a tail is compared with, at their maximum likelihood.

Each function takes y = ln(l / xmin) of a tail and returns the log-density of each y and the
parameters by powerlaw's names. Three of them contain the power law, two of these in a limit that no
parameter reaches: where the likelihood still rises towards it, they are the power law, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Least alpha - 1 of the truncated power law: below, it is a gamma law that ends any spectrum.
MIN_SLOPE = 0.01


def _power_law(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    slope = 1 / float(np.mean(logs))
    return math.log(slope) - slope * logs


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
        return _power_law(logs), {"alpha": 1 + power_law_slope, "Lambda": 0.0}
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

    def log_growth(beta: float) -> float:
        # scaled by the largest, so that nothing overflows at any beta
        return beta * top + math.log(
            float(np.mean(np.exp(beta * (logs - top)) * -np.expm1(-beta * logs)))
        )

    def cost(log_beta: float) -> float:
        beta = math.exp(log_beta)
        return log_growth(beta) - log_beta - beta * mean_log

    # In units of 1/top; below 1e-6 it is the power law to rounding. The best beta is about
    # 1 / (top - mean) where that is large, and no more than n times it.
    found = minimize_scalar(
        cost,
        bounds=(math.log(1e-6 / top), math.log(max(600 / top, 10 * logs.size / (top - mean_log)))),
        method="bounded",
        options={"xatol": 1e-9},
    )
    # What the cost tends to; the difference below is what rounding leaves of the smallest beta.
    if found.fun >= math.log(mean_log) - 1e-10:
        return _power_law(logs), {"Lambda": math.inf, "beta": 0.0}
    beta = math.exp(found.x)
    log_rate = -log_growth(beta)
    growth = np.exp(log_rate + beta * logs) - math.exp(log_rate)
    densities = math.log(beta) + log_rate + beta * logs - growth
    log_lambda = log_rate / beta - math.log(xmin)
    return densities, {"Lambda": math.exp(min(log_lambda, 709.0)), "beta": beta}


def _lognormal(
    logs: NDArray[np.float64], xmin: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Of y a normal law, cut off below 0: u standard deviations above its centre.

    With h = pdf(u) / P(> u), mean(y) = sigma (h - u) and mean(y^2) = sigma^2 (1 + u^2 - u h). Thus
    mean(y^2) / mean(y)^2 is a function of u alone, rising from 1 to 2, where it is the power law:
    the likelihood has its maximum where this meets the sample's, and none where that is above 2.
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

    # Beyond 100, ratio and density are those of the power law to rounding; before -40 nothing is
    # cut off of the normal law, whose parameters are mean and standard deviation.
    if excess(100.0) <= 0:
        return _power_law(logs), {"mu": -math.inf, "sigma": math.inf}
    if excess(-40.0) >= 0:
        sigma = float(np.std(logs))
        u = -mean_log / sigma
    else:
        u = brentq(excess, -40.0, 100.0, xtol=1e-12, rtol=1e-14)
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
