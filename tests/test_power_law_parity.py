"""The power-law fit against a brute-force scan and the powerlaw package."""

import math
import warnings

import numpy as np
import pytest
from kinds_of_spectra import KINDS, pareto

import fitting


def brute_force(eigenvalues, two_sided=False):
    """The textbook scan: every candidate, every point, no shortcut."""
    x = np.sort(eigenvalues[eigenvalues > 0])
    best = (math.inf, None, None)
    for xmin in np.unique(x)[:-2]:
        tail = x[x >= xmin]
        alpha = 1 + tail.size / np.sum(np.log(tail / xmin))
        if alpha - 1 < 0.02:
            continue
        model = 1 - (tail / xmin) ** (1 - alpha)
        distance = np.max(np.abs(model - np.searchsorted(tail, tail) / tail.size))
        if two_sided:
            above = np.searchsorted(tail, tail, side="right") / tail.size
            distance = max(distance, np.max(np.abs(model - above)))
        if distance < best[0]:
            best = (distance, xmin, alpha)
    return best


def reference(eigenvalues, **settings):
    """powerlaw 2.0.0 as it has to be called; it warns of the fits at the ends of its own scan."""
    import powerlaw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return powerlaw.Fit(
            eigenvalues, parameter_ranges={"alpha": [1.01, None]}, verbose=0, **settings
        )


class TestParity:
    @pytest.mark.parametrize("kind", KINDS)
    def test_with_powerlaw(self, kind):
        self.check(KINDS[kind](np.random.default_rng([0, 1])))

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_with_powerlaw_on_two_hundred_spectra(self, kind):
        for seed in range(12):
            self.check(KINDS[kind](np.random.default_rng([seed, 2])))

    @staticmethod
    def check(eigenvalues):
        fit, expected = fitting.fit_power_law(eigenvalues), reference(eigenvalues)
        assert fit.xmin == pytest.approx(expected.xmin, rel=1e-10)
        assert fit.alpha == pytest.approx(expected.alpha, abs=1e-10)
        assert fit.ks_distance == pytest.approx(expected.D, abs=1e-10)
        assert fit.sigma_classical == pytest.approx(expected.sigma, abs=1e-10)
        assert fit.num_tail == expected.n_tail

    @pytest.mark.parametrize("two_sided", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_with_brute_force(self, kind, two_sided):
        eigenvalues = KINDS[kind](np.random.default_rng(3))
        fit = fitting.fit_power_law(eigenvalues, ks="two-sided" if two_sided else "one-sided")
        distance, xmin, alpha = brute_force(eigenvalues, two_sided)
        assert fit.ks_distance == pytest.approx(distance, abs=1e-12)
        assert fit.xmin == pytest.approx(xmin, rel=1e-12)
        assert fit.alpha == pytest.approx(alpha, rel=1e-12)

    def test_every_candidate_of_a_small_spectrum_counts(self):
        for seed in range(300):
            generator = np.random.default_rng([seed, 4])
            eigenvalues = np.exp(generator.normal(size=generator.integers(3, 9)))
            fit = fitting.fit_power_law(eigenvalues)
            distance, xmin, _ = brute_force(eigenvalues)
            assert fit.ks_distance == pytest.approx(distance, abs=1e-12)
            assert fit.xmin == pytest.approx(xmin, rel=1e-12)

    def test_at_a_given_xmin(self):
        eigenvalues = KINDS["mixture"](np.random.default_rng(0))
        expected = reference(eigenvalues, xmin=1.7).power_law
        fit = fitting.fit_power_law(eigenvalues, xmin=1.7)
        assert fit.alpha == pytest.approx(expected.alpha, abs=1e-10)
        assert fit.ks_distance == pytest.approx(expected.D, abs=1e-10)

    def test_to_powerlaw(self):
        eigenvalues = np.concatenate([KINDS["zeros"](np.random.default_rng(0))])
        fit = fitting.fit_power_law(eigenvalues)
        theirs, searched = fit.to_powerlaw(), reference(eigenvalues)
        assert theirs.xmin == pytest.approx(searched.xmin, rel=1e-10)
        assert theirs.power_law.alpha == pytest.approx(fit.alpha, abs=1e-10)
        distance = theirs.power_law.D
        assert distance == pytest.approx(searched.D, abs=1e-10)
        assert theirs.alpha == fit.alpha
        assert theirs.n_tail == fit.num_tail
        # a tail steeper than powerlaw's default cap passes through
        steep = fitting.fit_power_law(pareto(np.random.default_rng(0), 5.0, 400))
        assert steep.to_powerlaw().power_law.alpha == pytest.approx(steep.alpha, abs=1e-8)
