"""The power-law fit: known answers, invariance, its standard error, and many fits at once."""

import math
import warnings

import numpy as np
import pytest
from kinds_of_spectra import KINDS, pareto
from planted_spectra import gaussian_spectrum

import fitting


class TestKnownAnswers:
    # T12 of the theory: quantiles of a power law, so that the fit is nearly free of noise.
    @pytest.mark.parametrize(
        ("alpha", "expected"),
        [(1.5, 1.501), (2, 2.002), (2.5, 2.503), (3.5, 3.50), (4, 4.005), (5, 5.007)],
    )
    def test_quantiles_of_a_power_law(self, alpha, expected):
        eigenvalues = (1 - (np.arange(500) + 0.5) / 500) ** (-1 / (alpha - 1))
        fit = fitting.fit_power_law(eigenvalues)
        assert fit.alpha == pytest.approx(expected, abs=0.01)
        assert fit.ks_distance == pytest.approx(0.001, abs=0.001)
        assert fit.num_tail == 500
        assert fit.valid

    def test_alpha_is_not_capped_at_three(self):
        eigenvalues = (1 - (np.arange(500) + 0.5) / 500) ** (-1 / 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import powerlaw

            capped = powerlaw.Fit(eigenvalues, verbose=0).alpha
        assert capped == pytest.approx(3.0, abs=0.01)
        assert fitting.fit_power_law(eigenvalues).alpha == pytest.approx(4.0, abs=0.01)

    # T14: the tail starts at 2, and alpha is found wherever xmin ends up.
    @pytest.mark.parametrize("alpha", [2, 2.5, 3.5])
    @pytest.mark.parametrize("seed", range(4))
    def test_tail_above_a_uniform_body(self, alpha, seed):
        generator = np.random.default_rng(seed)
        body, tail = generator.uniform(0.1, 2, 300), pareto(generator, alpha, 700, xmin=2)
        fit = fitting.fit_power_law(np.concatenate([body, tail]))
        assert abs(fit.alpha - alpha) < 3 * (alpha - 1) / math.sqrt(fit.num_tail)

    # T15: noise looks heavy-tailed if it is cut off at its largest eigenvalue.
    @pytest.mark.parametrize("shape", [(1000, 400), (600, 600)])
    def test_gaussian_noise(self, shape):
        eigenvalues = gaussian_spectrum(shape, np.random.default_rng(0))
        fit = fitting.fit_power_law(eigenvalues)
        assert 5.5 < fit.alpha < 40
        assert fit.ks_distance > 0.08
        fooled = fitting.fit_power_law(eigenvalues, xmax=eigenvalues.max())
        assert fooled.valid
        assert 1.2 < fooled.alpha < 3
        assert fooled.ks_distance < 0.03

    def test_closed_form_at_a_given_xmin(self):
        eigenvalues = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
        fit = fitting.fit_power_law(eigenvalues, xmin=1.5)
        expected = 1 + 5 / np.sum(np.log(eigenvalues[1:] / 1.5))
        assert fit.alpha == pytest.approx(expected, rel=1e-14)
        assert fit.xmin == 1.5
        assert fit.num_tail == 5
        assert fit.sigma == fit.sigma_classical == pytest.approx((expected - 1) / math.sqrt(5))

    def test_truncated_likelihood_with_xmax(self):
        generator = np.random.default_rng(0)
        alpha, xmax = 2.2, 10.0
        u = generator.random(20_000) * (1 - xmax ** (1 - alpha))
        eigenvalues = (1 - u) ** (-1 / (alpha - 1))
        fit = fitting.fit_power_law(eigenvalues, xmin=1, xmax=xmax)
        assert abs(fit.alpha - alpha) < 3 * fit.sigma
        # the score of the truncated law is zero there
        slope, log_range = fit.alpha - 1, math.log(xmax)
        score = 1 / slope - log_range / math.expm1(slope * log_range)
        assert np.mean(np.log(eigenvalues)) == pytest.approx(score, rel=1e-10)
        # and its observed information is what sigma says
        information = 1 / slope**2 - (log_range / (2 * math.sinh(slope * log_range / 2))) ** 2
        assert fit.sigma == pytest.approx(1 / math.sqrt(20_000 * information), rel=1e-10)

    @pytest.mark.parametrize("alpha", [0.4, 1.0, 1.6, 6.0])
    def test_xmax_allows_any_slope(self, alpha):
        generator = np.random.default_rng(1)
        log_range = math.log(5)
        slope = alpha - 1 or 1e-12
        u = generator.random(20_000)
        logs = -np.log1p(u * math.expm1(-slope * log_range)) / slope
        fit = fitting.fit_power_law(np.exp(logs), xmin=1, xmax=5)
        assert abs(fit.alpha - alpha) < 3.5 * fit.sigma
        if alpha == 1:  # ln l is uniform there
            assert fit.sigma == pytest.approx(math.sqrt(12 / 20_000) / log_range, rel=1e-3)

    @pytest.mark.parametrize(
        ("ks", "exponents", "counts", "xmin", "other"),
        [
            ("one-sided", (0, 2, 5, 7, 9, 10, 11), (3, 2, 4, 2, 3, 2, 1), 2.0**5, 2.0**9),
            ("two-sided", (0, 3, 5, 6, 9), (1, 3, 2, 2, 2), 2.0**3, 2.0**5),
        ],
    )
    def test_of_two_equal_distances_the_longer_tail_wins(self, ks, exponents, counts, xmin, other):
        """As in powerlaw; the scan meets the shorter tail first."""
        eigenvalues = np.repeat(2.0 ** np.array(exponents), counts)
        fit = fitting.fit_power_law(eigenvalues, ks=ks)
        equal = fitting.fit_power_law(eigenvalues, ks=ks, xmin=other)
        assert equal.ks_distance == pytest.approx(fit.ks_distance, rel=1e-14)
        assert fit.xmin == xmin < other


class TestInvariance:
    def test_order_does_not_matter(self):
        eigenvalues = KINDS["mixture"](np.random.default_rng(0))
        shuffled = np.random.default_rng(1).permutation(eigenvalues)
        assert fitting.fit_power_law(eigenvalues) == fitting.fit_power_law(shuffled)

    @pytest.mark.parametrize("scale", [1e-30, 1 / 3, 1e30])
    def test_scale_changes_only_xmin(self, scale):
        eigenvalues = KINDS["student"](np.random.default_rng(0))
        fit, scaled = (fitting.fit_power_law(x) for x in (eigenvalues, scale * eigenvalues))
        assert scaled.alpha == pytest.approx(fit.alpha, rel=1e-9)
        assert scaled.ks_distance == pytest.approx(fit.ks_distance, rel=1e-9)
        assert scaled.xmin == pytest.approx(scale * fit.xmin, rel=1e-9)

    def test_zeros_are_left_out(self):
        eigenvalues = KINDS["pareto"](np.random.default_rng(0))
        fit = fitting.fit_power_law(eigenvalues)
        padded = fitting.fit_power_law(np.concatenate([eigenvalues, np.zeros(50)]))
        assert (padded.alpha, padded.xmin, padded.num_tail) == (fit.alpha, fit.xmin, fit.num_tail)
        assert padded.num_eigenvalues == fit.num_eigenvalues + 50

    def test_what_it_is_given_stays_as_it_was(self):
        eigenvalues = np.array([5.0, 3.0, 4.0, 1.0, 2.0] * 4)
        before = eigenvalues.copy()
        fitting.fit_power_law(eigenvalues)
        np.testing.assert_array_equal(eigenvalues, before)

    def test_min_tail(self):
        eigenvalues = KINDS["gaussian"](np.random.default_rng(0))
        free = fitting.fit_power_law(eigenvalues)
        held = fitting.fit_power_law(eigenvalues, min_tail=free.num_tail + 10)
        assert held.num_tail >= free.num_tail + 10
        assert held.ks_distance >= free.ks_distance

    @pytest.mark.parametrize("dtype", [np.float32, np.int64, "bfloat16"])
    def test_any_real_dtype_is_fitted_in_float64(self, dtype):
        if dtype == "bfloat16":
            import ml_dtypes

            dtype = ml_dtypes.bfloat16
        eigenvalues = (100 * pareto(np.random.default_rng(0), 2.5, 100)).astype(dtype)
        fit = fitting.fit_power_law(eigenvalues)
        assert fit == fitting.fit_power_law(eigenvalues.astype(np.float64))
        assert fit.eigenvalues.dtype == np.float64


def coverage(num_samples, num_tail, alpha, share_below, seed):
    """Shares of planted alphas that alpha +- 1.96 sigma holds: ours, the classical."""
    generator = np.random.default_rng(seed)
    hits = np.zeros(2)
    for _ in range(num_samples):
        body = generator.uniform(0.05, 1, round(num_tail * share_below / (1 - share_below)))
        eigenvalues = np.concatenate([body, pareto(generator, alpha, num_tail)])
        fit = fitting.fit_power_law(eigenvalues)
        error = abs(fit.alpha - alpha)
        hits += error < 1.96 * fit.sigma, error < 1.96 * fit.sigma_classical
    return hits / num_samples


class TestSigma:
    def test_covers_ninety_five_percent(self):
        # the trial that showed the classical error to be too small: 150 below, 350 in the tail
        ours, classical = coverage(3000, 350, 2.5, 0.3, seed=20_001)
        assert ours == pytest.approx(0.95, abs=0.015)
        assert classical < 0.93

    @pytest.mark.slow
    @pytest.mark.parametrize("share_below", [0.0, 0.3])
    @pytest.mark.parametrize("num_tail", [50, 150, 500, 1000])
    @pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
    def test_covers_ninety_five_percent_everywhere(self, alpha, num_tail, share_below):
        seed = round(1e6 * alpha + 10 * num_tail + 10 * share_below)
        ours, _ = coverage(5000, num_tail, alpha, share_below, seed)
        assert ours == pytest.approx(0.95, abs=0.02)


class TestMany:
    def test_the_same_as_one_by_one(self):
        generator = np.random.default_rng(0)
        listed = [KINDS[kind](generator) for kind in KINDS]
        results = fitting.fit_power_laws(listed)
        assert results.fits == tuple(fitting.fit_power_law(x) for x in listed)
        assert results.p_values is None

    def test_p_values_do_not_depend_on_the_threads(self):
        generator = np.random.default_rng(0)
        listed = [pareto(generator, 2.5, size) for size in (50, 200, 100, 80)]
        one, four = (
            fitting.fit_power_laws(listed, num_bootstrap=100, key=3, num_threads=n) for n in (1, 4)
        )
        assert one == four
        expected = fitting.goodness_of_fit(listed[2], one.fits[2], num_bootstrap=100, key=5)
        assert one.p_values[2] == expected

    def test_nothing_in_nothing_out(self):
        assert fitting.fit_power_laws([]).fits == ()

    def test_says_which_spectrum_is_bad(self):
        with pytest.raises(ValueError, match=r"spectrum 1: .*; expected finite"):
            fitting.fit_power_laws([[1.0, 2.0], [np.nan]])
        with pytest.raises(ValueError, match="num_bootstrap is -1; expected 0 or more"):
            fitting.fit_power_laws([[1.0]], num_bootstrap=-1)
        with pytest.raises(ValueError, match="num_threads is 0; expected 1 or more"):
            fitting.fit_power_laws([[1.0]], num_threads=0)
