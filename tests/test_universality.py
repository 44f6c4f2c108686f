"""Universality classes, and the element laws that they stand for (T6, T7)."""

import math

import numpy as np
import pytest
from planted_spectra import eigenvalues

import fitting


@pytest.mark.parametrize(
    ("alpha", "name", "mu", "rule"),
    [
        (1.25, "very heavy-tailed", 0.5, "mu = 2 (alpha - 1)"),
        (1.999, "very heavy-tailed", 1.998, "mu = 2 (alpha - 1)"),
        (2.0, "fat-tailed", 2.0, "mu = 2 for alpha in [2, 3]"),
        (2.25, "fat-tailed", 2.0, "mu = 2 for alpha in [2, 3]"),
        (3.0, "fat-tailed", 2.0, "mu = 2 for alpha in [2, 3]"),
        (3.5, "fat-tailed", 2.5, "mu = alpha - 1"),
        (6.0, "fat-tailed", 5.0, "mu = alpha - 1"),
        (6.1, "weakly heavy-tailed", 5.1, "mu = alpha - 1"),
    ],
)
def test_class_by_alpha(alpha, name, mu, rule):
    result = fitting.universality_class(alpha)
    assert (result.name, result.rule) == (name, rule)
    assert result.mu == pytest.approx(mu)
    assert result.caveat


def test_mu_is_continuous_and_never_falls():
    mu = [fitting.universality_class(alpha).mu for alpha in np.linspace(1.01, 8, 700)]
    assert np.all(np.diff(mu) > -1e-12)
    assert np.diff(mu).max() < 0.03


def test_convention_names_what_the_theorem_would_say():
    assert "mu = 2.5" in fitting.universality_class(2.25).caveat


@pytest.mark.parametrize("alpha", [1.0, 0.5, math.nan, math.inf, -2.0])
def test_alpha_without_a_class_is_refused(alpha):
    with pytest.raises(ValueError, match="above 1"):
        fitting.universality_class(alpha)


def pareto(mu, shape, rng):
    return rng.choice([-1.0, 1.0], shape) * (1 - rng.uniform(size=shape)) ** (-1 / mu)


@pytest.mark.parametrize(
    ("mu", "alpha", "tolerance"), [(0.5, 1.24, 0.05), (1.0, 1.49, 0.06), (1.5, 1.84, 0.10)]
)
def test_alpha_of_heavy_entries(mu, alpha, tolerance):
    rng = np.random.default_rng([21, int(10 * mu)])
    spectra = [eigenvalues(pareto(mu, (1000, 500), rng)) for _ in range(3)]
    fits = [fitting.fit_power_law(values) for values in spectra]
    assert np.mean([fit.alpha for fit in fits]) == pytest.approx(alpha, abs=tolerance)
    element = fitting.universality_class(fits[0].alpha)
    assert element.name == "very heavy-tailed"
    assert element.mu == pytest.approx(mu, abs=0.3)


@pytest.mark.parametrize("mu", [1.0, 1.5, 2.5])
def test_largest_eigenvalue_of_heavy_entries_is_frechet(mu):
    rng = np.random.default_rng([22, int(10 * mu)])
    largest = [np.linalg.norm(pareto(mu, (400, 200), rng), 2) ** 2 for _ in range(40)]
    median = np.median(largest) / (400 * 200) ** (2 / mu)
    frechet = math.log(2) ** (-2 / mu)
    assert frechet / 2 < median < 2 * frechet
