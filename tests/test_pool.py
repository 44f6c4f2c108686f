"""Spectra of several runs: their edge is the runs' own, not that of the pool's extremes."""

import math

import numpy as np
import pytest

import fitting

SHAPE = (300, 100)


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    spectra = []
    for _ in range(12):
        noise = rng.normal(size=SHAPE) / np.sqrt(max(SHAPE))
        spectra.append(np.linalg.svd(noise, compute_uv=False) ** 2)
    return spectra


def test_edges_are_those_of_the_single_runs_and_not_of_the_pools_extremes(runs):
    pooled = fitting.pool_spectra(runs, SHAPE)
    edge = (1 + np.sqrt(1 / 3)) ** 2
    assert pooled.lambda_plus == pytest.approx(edge, rel=5e-3)
    single = [fitting.fit_marchenko_pastur(run, SHAPE).lambda_plus for run in runs]
    assert pooled.lambda_plus == pytest.approx(np.mean(single), rel=1e-12)
    assert pooled.sigma2 == pytest.approx(1, rel=5e-3)
    assert pooled.num_spikes < 0.5
    assert pooled.num_runs == 12


def test_pooled_ranks_take_the_largest_eigenvalue_of_all_runs(runs):
    pooled = fitting.pool_spectra([runs[0], runs[1] * 2], SHAPE)
    largest = 2 * runs[1].max()
    norm = (runs[0].sum() + 2 * runs[1].sum()) / 2
    assert pooled.stable_rank == pytest.approx(norm / largest)
    assert pooled.mp_soft_rank == pytest.approx(pooled.lambda_plus / largest)
    zeros = fitting.pool_spectra([np.zeros(20)], (30, 20))
    assert zeros.stable_rank == 1
    assert math.isnan(zeros.mp_soft_rank)


def test_the_pool_is_an_array_of_all_eigenvalues_descending(runs):
    pooled = fitting.pool_spectra(runs)
    assert np.array_equal(np.asarray(pooled), np.sort(np.concatenate(runs))[::-1])
    assert fitting.fit_power_law(pooled, xmin=1.0).num_tail == sum((run >= 1).sum() for run in runs)


def test_what_cannot_be_pooled_is_refused(runs):
    with pytest.raises(ValueError, match="list_of_eigenvalues is empty; expected"):
        fitting.pool_spectra([])
    with pytest.raises(ValueError, match="spectra of 99 to 100 eigenvalues"):
        fitting.pool_spectra([runs[0], runs[1][1:]])
    with pytest.raises(ValueError, match="has 100; expected 50 for a matrix"):
        fitting.pool_spectra(runs, (300, 50))
    with pytest.raises(ValueError, match="NaN"):
        fitting.pool_spectra([runs[0] * np.nan])
    with pytest.raises(ValueError, match=r"lambda_plus is missing, .*; expected a shape"):
        _ = fitting.pool_spectra(runs).lambda_plus
