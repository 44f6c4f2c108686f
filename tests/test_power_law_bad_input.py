"""The power-law fit of spectra without a tail, of bad input, and of anything at all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds_of_spectra import spectrum
from matrices import spectra

import fitting


class TestDegenerate:
    @pytest.mark.parametrize(
        ("eigenvalues", "reason"),
        [
            (np.zeros(20), "zero"),
            (np.full(50, 3.0), "constant"),
            (np.concatenate([np.zeros(20), [1.0]]), "constant"),
            (spectrum(np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]), "constant"),
            (np.concatenate([np.ones(20), np.full(20, 5.0)]), "distinct"),
            (np.arange(1.0, 10.0), "9 positive eigenvalues"),
            (np.concatenate([np.arange(1.0, 10.0), np.zeros(50)]), "9 positive eigenvalues"),
            (np.concatenate([np.linspace(1, 1.1, 30), [3.0, 5.0, 9.0]]), "tail"),
            (np.linspace(1, 1.5, 100), "factor of two"),
            (np.exp(np.random.default_rng(0).exponential(100, size=100)), "1.02"),
        ],
    )
    def test_no_tail(self, eigenvalues, reason):
        fit = fitting.fit_power_law(eigenvalues)
        assert not fit.valid
        assert reason in fit.reason
        values = (fit.alpha, fit.xmin, fit.ks_distance, fit.sigma, fit.sigma_classical)
        assert not np.isnan(values).any()

    def test_constant_spectrum_has_the_capped_alpha(self):
        fit = fitting.fit_power_law(np.full(50, 3.0))
        assert (fit.alpha, fit.ks_distance, fit.sigma) == (100, 1, math.inf)
        assert (fit.xmin, fit.num_tail) == (3.0, 50)

    def test_single_valued_tail_at_a_given_xmin(self):
        eigenvalues = np.concatenate([np.linspace(0.1, 1, 30), np.full(20, 5.0)])
        fit = fitting.fit_power_law(eigenvalues, xmin=5)
        assert not fit.valid
        assert fit.alpha == 100
        assert "equal" in fit.reason

    def test_no_powerlaw_object_without_a_tail(self):
        with pytest.raises(ValueError, match=r"the fit has no tail .*constant"):
            fitting.fit_power_law(np.ones(20)).to_powerlaw()


class TestErrors:
    @pytest.mark.parametrize(
        ("eigenvalues", "settings", "message"),
        [
            ([], {}, "empty"),
            ([1.0, -2.0, 3.0], {}, "has -2; expected squared .* clip"),
            ([1.0, np.nan], {}, "has 1 of 2 that are NaN or infinite; expected finite"),
            ([1.0, np.inf], {}, "has 1 of 2 that are NaN or infinite; expected finite"),
            ([-np.inf, 1.0], {}, "expected finite"),
            (np.ones((3, 3)), {}, r"shape \(3, 3\)"),
            (3.0, {}, r"shape \(\)"),
            ([1j, 2j], {}, "complex"),
            (["a", "b"], {}, "expected real numbers"),
            ([1.0, 2.0, 3.0], {"xmin": 4}, "xmin is 4; expected at most the largest eigenvalue, 3"),
            (
                [1.0, 2.0, 3.0],
                {"xmin": 2.5, "xmax": 2.7},
                "xmin is 2.5; expected .* up to xmax=2.7, 2",
            ),
            ([1.0, 2.0, 3.0], {"xmin": 2, "xmax": 1}, "xmax is 1; expected more than xmin"),
            ([1.0, 2.0, 3.0], {"xmax": 0.5}, "smallest"),
            ([1.0, 2.0, 3.0], {"xmin": 0}, "xmin is 0; expected a positive, finite"),
            ([1.0, 2.0, 3.0], {"xmin": np.nan}, "xmin is nan; expected a positive, finite"),
            ([1.0, 2.0, 3.0], {"xmax": np.inf}, "leave it out"),
            ([1.0, 2.0, 3.0], {"min_tail": 1}, "min_tail"),
            ([1.0, 2.0, 3.0], {"ks": "both"}, "one-sided"),
        ],
    )
    def test_says_what_is_wrong(self, eigenvalues, settings, message):
        with pytest.raises(ValueError, match=message):
            fitting.fit_power_law(eigenvalues, **settings)


def check_any_spectrum(eigenvalues, ks, min_tail):
    fit = fitting.fit_power_law(eigenvalues, ks=ks, min_tail=min_tail)
    numbers = (fit.alpha, fit.xmin, fit.ks_distance, fit.sigma, fit.sigma_classical)
    assert not np.isnan(numbers).any()
    assert fit.valid == (not fit.reason)
    assert 0 <= fit.ks_distance <= 1
    if fit.valid:
        assert np.isfinite(numbers).all()
        assert fit.alpha > 1.02
        assert 10 <= fit.num_tail == np.count_nonzero(eigenvalues >= fit.xmin)


@pytest.mark.filterwarnings("ignore:eigenvalues are whole numbers:UserWarning")
class TestAnySpectrum:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(spectra(), st.sampled_from(["one-sided", "two-sided"]), st.integers(2, 30))
    def test_gives_defined_values(self, eigenvalues, ks, min_tail):
        check_any_spectrum(eigenvalues, ks, min_tail)

    @pytest.mark.slow
    @settings(max_examples=2000, deadline=None)
    @given(spectra(), st.sampled_from(["one-sided", "two-sided"]), st.integers(2, 30))
    def test_two_thousand_give_defined_values(self, eigenvalues, ks, min_tail):
        check_any_spectrum(eigenvalues, ks, min_tail)
