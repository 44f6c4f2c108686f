"""Eigenvalues and their derivative, on every kind of spectrum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from matrices import DEGENERATE, with_singular_values

import spectral_reg as sr


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (12, 12), (3, 2, 9, 5)])
def test_equal_squared_singular_values(float64, shape):
    W = np.random.default_rng(0).standard_normal(shape)
    expected = np.linalg.svd(W, compute_uv=False) ** 2
    np.testing.assert_allclose(sr.eigenvalues(W), expected, rtol=1e-12)
    np.testing.assert_allclose(
        sr.eigenvalues(W, normalize=True), expected / max(shape[-2:]), rtol=1e-12
    )


def test_gradient_is_the_closed_form(float64):
    rng = np.random.default_rng(0)
    W, weights = rng.standard_normal((9, 5)), rng.standard_normal(5)
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    gradient = jax.grad(lambda W: jnp.vdot(weights, sr.eigenvalues(W)))(W)
    np.testing.assert_allclose(gradient, U @ np.diag(2 * s * weights) @ Vt, rtol=1e-10)


def test_forward_mode_and_second_derivative_agree_with_finite_differences(float64):
    W = np.random.default_rng(0).standard_normal((6, 4))

    def f(W):
        return jnp.sum(sr.eigenvalues(W) ** 2 * jnp.arange(1.0, 5.0))

    check_grads(f, (W,), order=2, modes=("fwd", "rev"), rtol=1e-6)


@pytest.mark.parametrize("name", DEGENERATE)
def test_symmetric_functions_have_exact_gradients_on_degenerate_spectra(float64, name):
    W = DEGENERATE[name]
    # sum of l_i^2 = tr (W^T W)^2, whose gradient 4 W W^T W is smooth everywhere.
    gradient = jax.grad(lambda W: jnp.sum(sr.eigenvalues(W) ** 2))(W)
    np.testing.assert_allclose(gradient, 4 * W @ W.T @ W, atol=1e-10)


@pytest.mark.parametrize("shape", [(1024, 384), (384, 384)])
def test_float32_resolves_the_small_end(shape):
    # A float32 Gram matrix alone is noise below 1e-7 lambda_max; here lambda_min is 1e-8 of it.
    W = with_singular_values(np.random.default_rng(0), shape, np.logspace(0, -4, 384))
    W = W.astype(np.float32)
    exact = np.linalg.svd(W.astype(np.float64), compute_uv=False) ** 2
    measured = np.asarray(sr.eigenvalues(W))
    assert (np.diff(measured) <= 0).all()
    np.testing.assert_allclose(measured[exact > 1e-4], exact[exact > 1e-4], rtol=1e-3)
    np.testing.assert_allclose(np.log(measured).mean(), np.log(exact).mean(), rtol=0.01)


def test_float32_zeros_are_far_below_the_rank_tolerance():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((1024, 90)) @ rng.standard_normal((90, 200))
    measured = np.asarray(sr.eigenvalues(W.astype(np.float32)))
    assert measured[89] / measured[0] > 1e-3
    assert measured[90] / measured[0] < 1e-12


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_gradient_has_the_type_of_the_matrix(dtype):
    W = jnp.asarray(np.random.default_rng(0).standard_normal((8, 5)), dtype)
    values, vjp = jax.vjp(sr.eigenvalues, W)
    assert values.dtype == jnp.float32
    assert vjp(jnp.ones_like(values))[0].dtype == dtype


def test_jit_and_vmap_agree_with_a_loop():
    W = jnp.asarray(np.random.default_rng(0).standard_normal((3, 8, 5)), jnp.float32)
    loop = jnp.stack([sr.eigenvalues(matrix) for matrix in W])
    for batched in (sr.eigenvalues(W), jax.jit(jax.vmap(sr.eigenvalues))(W)):
        np.testing.assert_allclose(batched, loop, rtol=1e-5)


def test_nan_in_nan_out():
    W = jnp.ones((2, 4, 3)).at[0, 1, 1].set(jnp.nan)
    values = sr.eigenvalues(W)
    assert jnp.isnan(values[0]).all()
    assert jnp.isfinite(values[1]).all()


@pytest.mark.parametrize(
    ("W", "error", "message"),
    [
        (np.ones(3), ValueError, r"shape \(3,\); expected matrices"),
        (np.ones((0, 3)), ValueError, "at least one"),
        (np.ones((3, 3), int), TypeError, "int32; expected a real floating"),
        (np.ones((3, 3), complex), TypeError, "complex64; expected a real floating"),
    ],
)
def test_bad_input(W, error, message):
    with pytest.raises(error, match=message):
        sr.eigenvalues(W)
