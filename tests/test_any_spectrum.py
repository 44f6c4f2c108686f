"""Whatever the spectrum, every fit gives defined values or one of its documented errors."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matrices import spectra

import fitting
from fitting._evaluation._measure import measure_spectrum

SIDES = st.integers(0, 500)


def assert_no_nan(numbers):
    for name, number in numbers.items():
        assert not (isinstance(number, float) and math.isnan(number)), name


def check(eigenvalues, surplus):
    shape = (eigenvalues.size + surplus, eigenvalues.size)
    bulk = fitting.fit_marchenko_pastur(eigenvalues, shape)
    assert bulk.valid == (not bulk.reason)
    if bulk.valid:
        assert_no_nan(dataclasses.asdict(bulk))
        assert 0 <= bulk.mp_soft_rank <= 1
        assert 0 <= bulk.num_spikes <= eigenvalues.size
        # At Q = 1 the law diverges at 0, as 1 / sqrt(l).
        assert np.isfinite(bulk.density(eigenvalues[eigenvalues > 0])).all()
        assert not np.isnan(bulk.density(eigenvalues)).any()
        assert not np.isnan(bulk.signals.theta).any()

    result = fitting.classify_phase(eigenvalues, shape[::-1])
    assert isinstance(result.phase, fitting.Phase)
    assert result.reasons
    if result.phase is not fitting.Phase.UNCLASSIFIED:
        assert_no_nan(result.evidence)
    if bulk.valid:
        assert 0 <= result.mp_soft_rank <= 1

    fit = result.power_law
    p_value = fitting.goodness_of_fit(eigenvalues, fit, num_bootstrap=5)
    assert 0 <= p_value <= 1
    if fit.valid:
        assert fitting.bootstrap_sigma(eigenvalues, fit, num_bootstrap=5) >= 0
        assert fitting.universality_class(fit.alpha).mu > 0

    row = measure_spectrum(eigenvalues, shape)
    assert row["valid"] == (not row["reason"])
    if row["valid"]:
        undefined = {"log_stable_rank_ratio"} if row["lambda_max"] == 1 else set()
        assert_no_nan({name: row[name] for name in row.keys() - undefined})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(spectra(max_size=120), SIDES)
def test_any_spectrum(eigenvalues, surplus):
    check(eigenvalues, surplus)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(spectra(max_size=120), SIDES)
def test_two_thousand_spectra(eigenvalues, surplus):
    check(eigenvalues, surplus)


def check_matrix(matrix):
    result = fitting.localization(matrix)
    for values in (result.localization_ratio, result.participation_ratio, result.entropy):
        assert np.isfinite(values).all()
    assert_no_nan(dataclasses.asdict(result.random))
    assert 0 <= result.num_spikes <= result.entropy.size
    if result.num_spikes:
        assert_no_nan(dataclasses.asdict(result.spikes))
    null = fitting.shuffled_null(matrix)
    assert null.shape == (min(matrix.shape),)
    assert (null >= 0).all()


MATRICES = arrays(np.float64, st.tuples(*[st.integers(1, 30)] * 2), elements=st.floats(-1e3, 1e3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(MATRICES)
def test_any_matrix(matrix):
    check_matrix(matrix)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(MATRICES)
def test_two_thousand_matrices(matrix):
    check_matrix(matrix)
