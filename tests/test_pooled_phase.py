"""Phases of pooled spectra: noise of one variance is random-like, whatever the shapes."""

import numpy as np
import pytest

import fitting
from fitting._phase import classify_pooled


def pooled(W):
    values = np.linalg.svd(W, compute_uv=False) ** 2
    return classify_pooled(values.ravel(), W.shape[-2:], values.sum(axis=-1))


@pytest.mark.parametrize("num", [9, 25])
@pytest.mark.parametrize("shape", [(16, 16), (16, 32), (8, 64), (64, 64), (128, 64), (200, 100)])
def test_noise_of_one_variance_is_random_like(num, shape):
    rng = np.random.default_rng(num)
    results = [pooled(rng.normal(0, 0.1, (num, *shape))) for _ in range(10)]
    assert [result.phase.name for result in results] == ["RANDOM_LIKE"] * 10
    assert sum(result.marchenko_pastur.num_spikes for result in results) == 0
    edge = 0.01 * (shape[0] ** 0.5 + shape[1] ** 0.5) ** 2
    error = 0.2 if min(shape) <= 16 else 0.05
    for result in results:
        assert result.marchenko_pastur.lambda_plus == pytest.approx(edge, rel=error)


def test_without_the_wider_cuts_small_matrices_would_bleed():
    rng = np.random.default_rng(25)
    W = rng.standard_normal((25, 16, 16))
    values = (np.linalg.svd(W, compute_uv=False) ** 2).ravel()
    assert fitting.classify_phase(values, (400, 400)).phase.name == "BLEEDING_OUT"


def test_a_signal_in_each_is_a_spike():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((9, 128, 64))
    W += 5 * rng.choice([-1, 1], (9, 128, 1)) * rng.choice([-1, 1], (9, 1, 64)) / 64**0.5
    result = pooled(W)
    assert result.phase.name == "BULK_SPIKES"
    assert result.marchenko_pastur.num_spikes == 9


def test_different_variances_have_no_phase():
    rng = np.random.default_rng(0)
    scales = np.linspace(1, 1.5, 9)[:, None, None]
    kernel = (scales * rng.standard_normal((9, 128, 64))).reshape(3, 3, 128, 64)
    report = fitting.evaluate({"conv": {"kernel": kernel}}, conv="pooled", progress=False)
    row = report.layers.loc[0]
    assert row["phase"] == "UNCLASSIFIED"
    assert "squared norms vary by 26%" in row["phase_reason"]
    kernel = rng.standard_normal((3, 3, 128, 64))
    report = fitting.evaluate({"conv": {"kernel": kernel}}, conv="pooled", progress=False)
    assert report.layers.loc[0, "phase"] == "RANDOM_LIKE"
