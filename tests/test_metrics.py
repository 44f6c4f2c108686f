"""Metrics against closed forms, known answers and degenerate spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import DEGENERATE, with_singular_values

import spectral_reg as sr

METRICS = {
    "lambda_max": sr.lambda_max,
    "spectral_norm": sr.spectral_norm,
    "log_spectral_norm": sr.log_spectral_norm,
    "log_frobenius_norm": sr.log_frobenius_norm,
    "stable_rank": sr.stable_rank,
    "log_stable_rank": sr.log_stable_rank,
    "log_stable_rank_ratio": sr.log_stable_rank_ratio,
    "matrix_entropy": sr.matrix_entropy,
    "alpha": sr.alpha,
    "alpha_hat": sr.alpha_hat,
}
SCALE_FREE = ("stable_rank", "log_stable_rank", "matrix_entropy", "alpha")


def closed_form_gradients(W):
    """T9 of the theory: the gradients as functions of the singular vectors."""
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    F, top, top_vectors = (s**2).sum(), s[0] ** 2, np.outer(U[:, 0], Vt[0])
    p = s**2 / F
    H = -(p * np.log(p)).sum()
    return {
        "lambda_max": 2 * s[0] * top_vectors,
        "spectral_norm": top_vectors,
        "log_spectral_norm": top_vectors / s[0],
        "log_frobenius_norm": W / F,
        "stable_rank": 2 * W / top - 2 * F / top**2 * s[0] * top_vectors,
        "log_stable_rank": 2 * W / F - 2 * top_vectors / s[0],
        "log_stable_rank_ratio": 2 * W / (F * np.log(top))
        - np.log(F) / np.log(top) ** 2 * 2 * top_vectors / s[0],
        "matrix_entropy": (U * (-(2 * s / F) * (np.log(p) + H))) @ Vt / np.log(len(s)),
    }


@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
def test_gradients_are_the_closed_forms(float64, shape):
    W = np.random.default_rng(3).standard_normal(shape)
    for name, expected in closed_form_gradients(W).items():
        np.testing.assert_allclose(
            jax.jit(jax.grad(METRICS[name]))(W), expected, rtol=1e-9, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("name", SCALE_FREE)
def test_gradient_of_a_scale_free_metric_is_orthogonal_to_the_matrix(float64, name):
    W = np.random.default_rng(0).standard_normal((40, 20))
    gradient = jax.jit(jax.grad(METRICS[name]))(W)
    assert abs(jnp.vdot(W, gradient)) < 1e-12 * np.linalg.norm(W) * np.linalg.norm(gradient)


def test_euler_identity_of_lambda_max(float64):
    W = np.random.default_rng(0).standard_normal((40, 20))
    np.testing.assert_allclose(
        jnp.vdot(W, jax.grad(sr.lambda_max)(W)), 2 * sr.lambda_max(W), rtol=1e-12
    )


@pytest.mark.parametrize("name", METRICS)
def test_scale_orientation_and_rotation(float64, name):
    """T10: what changes under W -> cW, and that nothing does under rotation and transposition."""
    rng = np.random.default_rng(0)
    W, c, metric = rng.standard_normal((40, 20)), 3.7, jax.jit(METRICS[name])
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in W.shape)
    for same in (W.T, left @ W @ right.T):
        np.testing.assert_allclose(metric(same), metric(W), rtol=1e-10)
    if name in SCALE_FREE:
        np.testing.assert_allclose(metric(c * W), metric(W), rtol=1e-10)
    if name == "lambda_max":
        np.testing.assert_allclose(metric(c * W), c**2 * metric(W), rtol=1e-10)
    if name == "alpha_hat":
        shift = sr.alpha(W) * np.log(c**2)
        np.testing.assert_allclose(metric(c * W), metric(W) + shift, rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "stable_rank", "entropy"),
    [((1000, 500), 171.6, 0.95977), ((4096, 384), 225.1, 0.99212), ((400, 100), 44.4, 0.97286)],
)
def test_random_matrices_have_their_known_values(shape, stable_rank, entropy):
    """T3: R_s -> M / (1 + Q^-1/2)^2 and S -> 1 - 1 / (2 Q ln M)."""
    W = jax.random.normal(jax.random.key(0), shape)
    assert -0.01 < sr.stable_rank(W) / stable_rank - 1 < 0.03
    np.testing.assert_allclose(sr.matrix_entropy(W), entropy, atol=1e-3)


def test_exact_values():
    W = jnp.diag(jnp.array([4.0, 2.0, 2.0]))
    assert sr.lambda_max(W) == pytest.approx(16)
    assert sr.spectral_norm(W) == pytest.approx(4)
    assert sr.log_spectral_norm(W) == pytest.approx(np.log(4))
    assert sr.log_frobenius_norm(W) == pytest.approx(np.log(24) / 2)
    assert sr.stable_rank(W) == pytest.approx(1.5)
    assert sr.log_stable_rank(W) == pytest.approx(np.log(1.5))
    assert sr.log_stable_rank_ratio(W) == pytest.approx(np.log(24) / np.log(16))
    p = np.array([16, 4, 4]) / 24
    assert sr.matrix_entropy(W) == pytest.approx(-(p * np.log(p)).sum() / np.log(3))


def test_entropy_counts_the_rank_and_not_the_columns():
    W = with_singular_values(np.random.default_rng(0), (40, 20), np.ones(10)).astype(np.float32)
    assert sr.matrix_entropy(W) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", METRICS)
def test_finite_on_degenerate_spectra(name, dtype):
    # In one batch with a healthy matrix: a degenerate member must not spoil the others.
    healthy = np.random.default_rng(0).standard_normal((6, 4))
    batch, metric = jnp.asarray([healthy, *DEGENERATE.values()], dtype), METRICS[name]
    values, vjp = jax.jit(lambda batch: jax.vjp(metric, batch))(batch)
    (gradient,) = vjp(jnp.ones_like(values))
    assert jnp.isfinite(values).all()
    assert jnp.isfinite(gradient).all()
    assert gradient.dtype == dtype
    assert jnp.any(gradient[0] != 0)
    np.testing.assert_allclose(values[0], metric(batch[0]), rtol=1e-5)
    zero = 1 + list(DEGENERATE).index("zero")
    assert jnp.all(gradient[zero] == 0)


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith("alpha")])
def test_single_row(name):
    assert jnp.isfinite(jax.grad(METRICS[name])(jnp.ones((1, 4)))).all()


@pytest.mark.parametrize(
    ("name", "zero", "rank_one"),
    [("stable_rank", 1, 1), ("log_stable_rank", 0, 0), ("matrix_entropy", 0, 0)],
)
def test_defined_values_on_zero_and_rank_one(name, zero, rank_one):
    assert METRICS[name](jnp.asarray(DEGENERATE["zero"])) == zero
    assert METRICS[name](jnp.asarray(DEGENERATE["rank one"])) == pytest.approx(rank_one, abs=1e-5)


def test_logarithms_of_the_norms_of_a_zero_matrix_are_that_of_tiny():
    tiny = np.log(np.finfo(np.float32).tiny)
    assert sr.log_spectral_norm(jnp.zeros((3, 3))) == pytest.approx(tiny)
    assert sr.log_frobenius_norm(jnp.zeros((3, 3))) == pytest.approx(tiny)
    assert sr.spectral_norm(jnp.zeros((3, 3))) == 0


def test_pole_of_the_log_stable_rank_ratio(float64):
    """T11: the paper's values outside the guard, finite values and gradients inside it."""
    s = np.sqrt(np.linspace(1, 0.05, 8))
    W = with_singular_values(np.random.default_rng(0), (12, 8), s)
    log_stable_rank = float(sr.log_stable_rank(W))
    for top in (0.25, 0.81, 0.998, 1.002, 4, 1e2, 1e6):
        expected = 1 + log_stable_rank / np.log(top)
        assert sr.log_stable_rank_ratio(np.sqrt(top) * W) == pytest.approx(expected, rel=1e-9)
    for top in 1 + np.linspace(-1e-6, 1e-6, 5):
        value, gradient = jax.jit(jax.value_and_grad(sr.log_stable_rank_ratio))(np.sqrt(top) * W)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", METRICS)
def test_nan_in_nan_out(name):
    assert jnp.isnan(METRICS[name](jnp.ones((5, 4)).at[0, 0].set(jnp.nan)))


@pytest.mark.parametrize("name", [*SCALE_FREE, "spectral_norm", "alpha_hat"])
def test_float32_agrees_with_float64_at_condition_number_1e4(name):
    W = with_singular_values(np.random.default_rng(0), (300, 120), np.logspace(0, -4, 120))
    W = 3 * W.astype(np.float32)
    value, gradient = map(np.asarray, jax.jit(jax.value_and_grad(METRICS[name]))(W))
    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(METRICS[name]))(W.astype(np.float64))
        exact_value, exact_gradient = map(np.asarray, exact)
    assert value == pytest.approx(exact_value, rel=1e-3)
    error = np.linalg.norm(gradient - exact_gradient) / np.linalg.norm(exact_gradient)
    assert error < 1e-3
