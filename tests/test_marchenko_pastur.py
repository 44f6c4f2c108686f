"""The Marchenko-Pastur law, the Tracy-Widom edge and the formulas of the spiked model."""

import math

import numpy as np
import pytest
from planted_spectra import gaussian_spectrum
from scipy.integrate import quad, simpson, solve_ivp
from scipy.special import airy

import fitting

RATIOS = [1.0, 1.0001, 1.5, 10.667, 1e4]


# --- the law (T1, T2)


@pytest.mark.parametrize("Q", RATIOS)
def test_density_has_the_moments_of_the_law(Q):
    law, c = fitting.MarchenkoPastur(Q, sigma2=1.7), 1 / Q
    low, high = law.edges

    def moment(k):
        # the substitution takes the roots at the edges and the pole at 0 out of the integral
        def integrand(t):
            x = (low + high) / 2 - (high - low) / 2 * np.cos(t)
            return law.pdf(x) * (x / 1.7) ** k * (high - low) / 2 * np.sin(t)

        return quad(integrand, 0, np.pi, epsabs=1e-12, limit=200, points=[1e-4, 1e-2])[0]

    assert [moment(k) for k in range(4)] == pytest.approx([1, 1, 1 + c, 1 + 3 * c + c**2], abs=1e-8)
    assert (low, high) == pytest.approx((1.7 * (1 - c**0.5) ** 2, 1.7 * (1 + c**0.5) ** 2))


@pytest.mark.parametrize("Q", RATIOS)
def test_cdf_is_the_integral_of_the_density_and_ppf_its_inverse(Q):
    law = fitting.MarchenkoPastur(Q, sigma2=0.3)
    low, high = law.edges
    x = np.linspace(low, high, 9)[1:-1]
    step = 1e-5 * (high - low)
    slope = (law.cdf(x + step) - law.cdf(x - step)) / (2 * step)
    np.testing.assert_allclose(slope, law.pdf(x), rtol=1e-5)
    p = np.concatenate([[0.0, 1e-12, 1e-6], np.linspace(0.001, 0.999, 401), [1 - 1e-9, 1.0]])
    quantiles = law.ppf(p)
    assert np.all(np.diff(quantiles) > 0)
    np.testing.assert_allclose(law.cdf(quantiles), p, atol=1e-11)
    np.testing.assert_allclose(quantiles[[0, -1]], [low, high], rtol=1e-12)


def test_square_matrices_diverge_at_zero():
    law = fitting.MarchenkoPastur(1.0)
    x = np.array([1e-4, 1e-8])
    np.testing.assert_allclose(law.pdf(x) * np.pi * np.sqrt(x), 1, atol=1e-4)
    assert law.pdf(0.0) == np.inf
    assert law.cdf([0.0, 4.0]).tolist() == [0.0, 1.0]
    assert law.pdf([-1.0, 4.1]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("arguments", [(0.5, 1), (math.nan, 1), (2, 0), (2, -1), (2, math.inf)])
def test_law_rejects_impossible_parameters(arguments):
    with pytest.raises(ValueError, match="; expected"):
        fitting.MarchenkoPastur(*arguments)


def test_ppf_rejects_what_is_no_probability():
    with pytest.raises(ValueError, match=r"p is 1\.5; expected probabilities"):
        fitting.MarchenkoPastur(2.0).ppf([0.5, 1.5])


# --- the edge (T4)


def test_tracy_widom_agrees_with_painleve():
    # F1(s) = exp(-1/2 int_s^inf q + (x - s) q^2), q'' = s q + 2 q^3, q ~ Ai
    def system(s, y):
        q, slope, _, square, _ = y
        return [slope, s * q + 2 * q**3, -q, -(q**2), -square]

    start = 6.0
    ai, slope, _, _ = airy(start)
    tails = [
        quad(lambda x: airy(x)[0], start, 30)[0],
        quad(lambda x: airy(x)[0] ** 2, start, 30)[0],
    ]
    tails.append(quad(lambda x: (x - start) * airy(x)[0] ** 2, start, 30)[0])
    points = np.linspace(5, -5, 21)
    solution = solve_ivp(
        system, (start, -5), [ai, slope, *tails], t_eval=points, rtol=1e-12, atol=1e-16
    )
    painleve = np.exp(-(solution.y[2] + solution.y[4]) / 2)
    np.testing.assert_allclose(fitting.tracy_widom_cdf(points), painleve, atol=1e-7)


def test_tracy_widom_quantiles_and_moments():
    known = {0.01: -3.8954, 0.05: -3.1804, 0.1: -2.7824, 0.5: -1.2686, 0.9: 0.4501}
    known |= {0.95: 0.9793, 0.99: 2.0235, 0.995: 2.4223, 0.999: 3.2722}
    for p, quantile in known.items():
        assert fitting.tracy_widom_quantile(p) == pytest.approx(quantile, abs=2e-4)
    grid = np.linspace(-8, 8, 161)
    cdf = fitting.tracy_widom_cdf(grid)
    mean = 8 - simpson(cdf, x=grid)
    second = 64 - simpson(2 * grid * cdf, x=grid)
    assert mean == pytest.approx(-1.20653, abs=1e-5)
    assert second - mean**2 == pytest.approx(1.60778, abs=1e-4)
    assert fitting.tracy_widom_cdf([-30.0, 30.0]).tolist() == [0.0, 1.0]
    assert math.isnan(fitting.tracy_widom_cdf(math.nan))


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_tracy_widom_quantile_rejects_what_has_none(p):
    with pytest.raises(ValueError, match="expected a probability"):
        fitting.tracy_widom_quantile(p)


def test_largest_noise_eigenvalue_follows_tracy_widom():
    rng = np.random.default_rng(11)
    centre, scale = fitting.largest_eigenvalue_law((100, 400))
    largest = np.array([gaussian_spectrum((400, 100), rng)[-1] for _ in range(400)])
    standard = (largest - centre) / scale
    assert standard.mean() == pytest.approx(-1.2065, abs=0.15)
    assert standard.var() == pytest.approx(1.608, abs=0.35)
    assert np.mean(standard > 0.9793) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("shape", [(4, 0), (4,), (4.5, 2)])
def test_the_law_of_the_edge_is_that_of_a_matrix(shape):
    with pytest.raises(ValueError, match="expected the two sides of a matrix"):
        fitting.largest_eigenvalue_law(shape)


# --- the spiked model (T5)


def test_spike_formulas_known_values():
    signals = fitting.spike_signals(4 * np.array([3.9722222, 5.625]), Q=2.0, sigma2=4.0)
    np.testing.assert_allclose(signals.theta, [2.0, 1.5], rtol=1e-6)
    np.testing.assert_allclose(signals.strength, [4.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(signals.right_overlap, [0.861, 0.737], atol=1e-3)
    np.testing.assert_allclose(signals.left_overlap, [0.775, 0.624], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([4.0, math.nan], 2.0), "eigenvalues has nan; expected finite"),
        (([4.0], 0.5), "Q is 0.5; expected at least 1"),
        (([4.0], 2.0, 0.0), "sigma2 is 0.0; expected a positive"),
    ],
)
def test_spikes_of_no_noise_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fitting.spike_signals(*arguments)
