"""Eigenvalues of large matrices by a Gram matrix, held against an svd and known spectra."""

import ml_dtypes
import numpy as np
import pytest
from draws import RNG

from benchmarks import evaluate
from fitting._evaluation import _eigenvalues, _on_accelerator
from fitting._evaluation._band import BAND, eigenvalues_by_band
from fitting._evaluation._eigenvalues import squared_singular_values
from fitting._random_matrices import count_zeros


@pytest.fixture
def svd_calls(monkeypatch):
    calls = []
    real = _eigenvalues._singular_values
    monkeypatch.setattr(
        _eigenvalues, "_singular_values", lambda tall: calls.append(tall.shape) or real(tall)
    )
    return calls


def with_singular_values(values, num_rows):
    values = np.asarray(values)
    left = np.linalg.qr(RNG.normal(size=(num_rows, values.size)))[0]
    right = np.linalg.qr(RNG.normal(size=(values.size, values.size)))[0]
    return (left * values) @ right


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("shape", [(700, 400), (400, 900)])
def test_as_an_svd_whatever_the_type_orientation_and_block(monkeypatch, svd_calls, dtype, shape):
    W = RNG.standard_t(4, shape).astype(dtype)
    expected = np.linalg.svd(W.astype(np.float64), compute_uv=False) ** 2
    for block in (2**26, 8 * 400 * 37):
        monkeypatch.setattr(_eigenvalues, "BLOCK_BYTES", block)
        np.testing.assert_allclose(squared_singular_values(W), expected, rtol=1e-11)
    assert not svd_calls


@pytest.mark.parametrize("side", [1, 2, BAND, BAND + 1, BAND + 2, 3 * BAND - 1, 3 * BAND, 400])
def test_by_way_of_a_band_as_by_lapack(side):
    W = RNG.standard_t(3, (side + 20, side))
    W[:, ::7] = 0  # reflections of nothing
    gram = W.T @ W
    lower = gram + np.triu(np.full_like(gram, np.nan), 1)
    expected = np.linalg.eigvalsh(gram)
    np.testing.assert_allclose(eigenvalues_by_band(lower), expected, atol=1e-14 * expected[-1])


def test_the_largest_go_by_way_of_a_band(monkeypatch, svd_calls):
    W = RNG.standard_t(4, (700, 400)).astype(np.float32)
    expected = squared_singular_values(W)
    monkeypatch.setattr(_eigenvalues, "BAND_SIDE", 400)
    found = squared_singular_values(W)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert (found != expected).any()
    assert not svd_calls


def test_singular_values_down_to_a_hundred_millionth_of_the_largest(svd_calls):
    values = np.geomspace(1, 1e-8, 420)
    found = squared_singular_values(with_singular_values(values, 500))
    assert svd_calls == [(500, 420)]
    np.testing.assert_allclose(np.sqrt(found), values, rtol=1e-6)

    values = np.geomspace(1, 3e-7, 420)
    found = np.sqrt(squared_singular_values(with_singular_values(values, 500)))
    assert len(svd_calls) == 1
    assert np.abs(found - values).max() < 1e-8
    np.testing.assert_allclose(found[values > 1e-4], values[values > 1e-4], rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_that_a_gap_sets_apart_need_no_svd(svd_calls, dtype):
    W = with_singular_values(np.r_[np.linspace(5, 1, 300), np.zeros(120)], 500).astype(dtype)
    found = squared_singular_values(W)
    assert not svd_calls
    assert count_zeros(found[::-1], 500) == 120
    np.testing.assert_allclose(np.sqrt(found[:300]), np.linspace(5, 1, 300), rtol=1e-5)


def test_a_rank_that_a_gram_matrix_cannot_tell_is_counted_by_an_svd(svd_calls):
    # Two values below what is resolved: small, but with no gap above, and so not zero.
    values = np.r_[np.geomspace(1, 3e-7, 418), 2e-8, 1e-8]
    found = squared_singular_values(with_singular_values(values, 500))
    assert len(svd_calls) == 1
    np.testing.assert_allclose(np.sqrt(found[-2:]), values[-2:], rtol=1e-6)


def test_scales_whose_squares_leave_float64():
    W = RNG.normal(size=(500, 400))
    expected = np.linalg.svd(W, compute_uv=False)
    assert np.isinf(squared_singular_values(1e200 * W)).all()
    assert not squared_singular_values(1e-200 * W).any()
    for scale in (1e-145, 1e145):
        found = squared_singular_values(scale * W)
        np.testing.assert_allclose(np.sqrt(found), scale * expected, rtol=1e-9)


def test_entries_that_are_not_finite_and_zeros():
    W = RNG.normal(size=(3, 500, 400)).astype(np.float32)
    W[0, 7, 3], W[1, 2, 1], W[2] = np.nan, -np.inf, 0
    found = squared_singular_values(W)
    assert np.isnan(found[:2]).all()
    assert not found[2].any()


def test_on_an_accelerator(monkeypatch):
    W = RNG.normal(size=(500, 400)).astype(np.float32)
    W[3] *= 100
    expected = squared_singular_values(W)
    monkeypatch.setattr(_eigenvalues, "ACCELERATOR_SIDE", 1)
    monkeypatch.setattr(_on_accelerator, "has_accelerator", lambda: True)
    monkeypatch.setattr(_eigenvalues, "BLOCK_BYTES", 8 * 400 * 128)
    import jax

    found = squared_singular_values(W, accelerator=True)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert not jax.config.jax_enable_x64
    W[0, 0] = np.nan
    assert np.isnan(squared_singular_values(W, accelerator=True)).all()


def test_the_benchmark_of_an_accelerator(monkeypatch, capsys):
    monkeypatch.setattr(_eigenvalues, "ACCELERATOR_SIDE", 1)
    monkeypatch.setattr(_on_accelerator, "has_accelerator", lambda: True)
    W = RNG.normal(size=(500, 400)).astype(ml_dtypes.bfloat16)
    evaluate.device({"q_proj.weight": W, "up_proj.weight": W[:390]})
    printed = capsys.readouterr().out
    assert "500 x 400 in bfloat16: GPU" in printed
    assert "32 blocks" in printed
