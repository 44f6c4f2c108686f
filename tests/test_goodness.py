"""p-values and bootstrapped errors: right where the truth is planted, small where it is not."""

import math

import numpy as np
import pytest
from planted_spectra import gaussian_spectrum
from scipy.stats import kstest

import fitting


def planted(generator, num_tail=280, num_below=120, alpha=2.5):
    """Uniform up to 1, a power law above it."""
    tail = (1 - generator.random(num_tail)) ** (-1 / (alpha - 1))
    return np.concatenate([generator.uniform(0.05, 1, num_below), tail])


def p_values(draw, num_samples, num_bootstrap, **settings):
    result = []
    for seed in range(num_samples):
        eigenvalues = draw(np.random.default_rng([seed, 77]))
        fit = fitting.fit_power_law(eigenvalues, **settings)
        result.append(
            fitting.goodness_of_fit(eigenvalues, fit, num_bootstrap=num_bootstrap, key=seed)
        )
    return np.array(result)


NULLS = {
    "with a body": planted,
    "from the smallest on": lambda g: planted(g, num_tail=300, num_below=0),
    "steep": lambda g: planted(g, num_tail=200, num_below=50, alpha=3.5),
}


class TestGoodness:
    @pytest.mark.parametrize("null", NULLS)
    def test_uniform_under_the_null(self, null):
        p = p_values(NULLS[null], num_samples=150, num_bootstrap=60)
        assert abs(p.mean() - 0.5) < 0.07  # 3 standard errors; CSN's own null gives 0.59
        assert kstest(p, "uniform").pvalue > 0.01

    @pytest.mark.slow
    @pytest.mark.parametrize("ks", ["one-sided", "two-sided"])
    @pytest.mark.parametrize("null", NULLS)
    def test_uniform_on_three_hundred_planted_samples(self, null, ks):
        p = p_values(NULLS[null], num_samples=300, num_bootstrap=300, ks=ks)
        assert kstest(p, "uniform").pvalue > 0.001  # one of six
        assert abs(p.mean() - 0.5) < 0.05
        assert np.mean(p <= 0.1) == pytest.approx(0.1, abs=0.05)

    def test_uniform_at_a_given_xmin(self):
        p = p_values(planted, num_samples=150, num_bootstrap=100, xmin=1.0)
        assert kstest(p, "uniform").pvalue > 0.01

    def test_uniform_with_xmax(self):
        def truncated(generator):
            u = generator.random(300) * (1 - 20**-1.2)
            return (1 - u) ** (-1 / 1.2)

        p = p_values(truncated, num_samples=100, num_bootstrap=60, xmax=20)
        assert kstest(p, "uniform").pvalue > 0.01

    @pytest.mark.parametrize("shape", [(600, 300), (300, 300), (1000, 200)])
    def test_small_for_gaussian_spectra(self, shape):
        def draw(generator):
            return gaussian_spectrum(shape, generator)

        assert np.median(p_values(draw, num_samples=15, num_bootstrap=100)) < 0.1

    def test_small_for_lognormal_spectra(self):
        def draw(generator):
            return np.exp(generator.normal(size=1000))

        assert p_values(draw, num_samples=4, num_bootstrap=100, xmin=1.0).max() == 0
        # the search for xmin often finds a tail far out that is straight enough
        p = p_values(draw, num_samples=40, num_bootstrap=60)
        assert np.mean(p <= 0.1) > 0.3
        assert kstest(p, "uniform").pvalue < 1e-3

    def test_the_key_decides(self):
        eigenvalues = planted(np.random.default_rng(0))
        fit = fitting.fit_power_law(eigenvalues)
        p = [fitting.goodness_of_fit(eigenvalues, fit, num_bootstrap=500, key=k) for k in (0, 0, 1)]
        assert p[0] == p[1] != p[2]
        assert p[2] == pytest.approx(p[0], abs=0.1)

    def test_no_tail_has_no_chance(self):
        for eigenvalues in (np.zeros(20), np.ones(20)):
            fit = fitting.fit_power_law(eigenvalues)
            assert fitting.goodness_of_fit(eigenvalues, fit) == 0.0
            assert fitting.bootstrap_sigma(eigenvalues, fit) == math.inf


class TestBootstrapSigma:
    @pytest.mark.parametrize(("num_tail", "num_below"), [(80, 40), (350, 150), (300, 0)])
    def test_agrees_with_the_correction(self, num_tail, num_below):
        ratios = []
        for seed in range(12):
            eigenvalues = planted(np.random.default_rng([seed, 5]), num_tail, num_below)
            fit = fitting.fit_power_law(eigenvalues)
            sigma = fitting.bootstrap_sigma(eigenvalues, fit, num_bootstrap=300, key=seed)
            ratios.append(sigma / fit.sigma)
        assert np.median(ratios) == pytest.approx(1.0, abs=0.08)

    def test_is_classical_at_a_given_xmin(self):
        eigenvalues = planted(np.random.default_rng(0), num_tail=1000)
        fit = fitting.fit_power_law(eigenvalues, xmin=1)
        sigma = fitting.bootstrap_sigma(eigenvalues, fit, num_bootstrap=4000)
        assert sigma == pytest.approx(fit.sigma_classical, rel=0.06)

    @pytest.mark.slow
    def test_covers_ninety_five_percent(self):
        hits = []
        for seed in range(600):
            eigenvalues = planted(np.random.default_rng([seed, 6]), 350, 150)
            fit = fitting.fit_power_law(eigenvalues)
            sigma = fitting.bootstrap_sigma(eigenvalues, fit, num_bootstrap=400, key=seed)
            hits.append(abs(fit.alpha - 2.5) < 1.96 * sigma)
        assert np.mean(hits) == pytest.approx(0.95, abs=0.025)


class TestErrors:
    @pytest.mark.parametrize("function", [fitting.goodness_of_fit, fitting.bootstrap_sigma])
    def test_says_what_is_wrong(self, function):
        eigenvalues = planted(np.random.default_rng(0))
        fit = fitting.fit_power_law(eigenvalues)
        with pytest.raises(ValueError, match="not those of the fit; expected"):
            function(2 * eigenvalues, fit)
        with pytest.raises(ValueError, match="not those of the fit; expected"):
            function(eigenvalues[:-1], fit)
        with pytest.raises(ValueError, match="num_bootstrap is 0; expected 1 or more"):
            function(eigenvalues, fit, num_bootstrap=0)
