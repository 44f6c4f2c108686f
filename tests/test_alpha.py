"""Estimators of alpha against formulas, known exponents and closed-form gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from matrices import with_singular_values

import spectral_reg as sr


def reference_hill(eigenvalues, k):
    tail = eigenvalues[:k]
    return 1 + k / np.log(tail / tail[-1]).sum()


@pytest.mark.parametrize(("fraction", "k"), [(0.001, 2), (0.1, 11), (0.5, 51), (1.0, 101)])
def test_hill_is_its_formula(float64, fraction, k):
    eigenvalues = np.sort(np.random.default_rng(0).pareto(1.5, 101))[::-1]
    assert sr.hill(fraction)(eigenvalues) == pytest.approx(
        reference_hill(eigenvalues, k), rel=1e-12
    )


def test_smooth_hill_is_the_mean_of_hill(float64):
    eigenvalues = np.sort(np.random.default_rng(0).pareto(1.5, 100))[::-1]
    expected = np.mean([reference_hill(eigenvalues, k) for k in range(10, 51)])
    assert sr.smooth_hill(0.1, 0.5)(eigenvalues) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("exponent", [1.5, 2, 2.5, 3.5, 4, 5])
@pytest.mark.parametrize("estimator", [sr.hill(0.5), sr.smooth_hill(), sr.smooth_hill(0.2, 0.9)])
def test_exact_power_laws_have_their_exponent(exponent, estimator):
    """T12: deterministic quantiles of a power law."""
    u = (np.arange(500) + 0.5) / 500
    eigenvalues = jnp.asarray(np.sort((1 - u) ** (-1 / (exponent - 1)))[::-1], jnp.float32)
    assert estimator(eigenvalues) == pytest.approx(exponent, rel=0.02)


def test_alpha_sees_the_spectrum_alone(float64):
    """T13: the same spectrum with random singular vectors has the same alpha."""
    u = (np.arange(60) + 0.5) / 60
    eigenvalues = np.sort((1 - u) ** (-1 / 1.5))[::-1]
    W = with_singular_values(np.random.default_rng(0), (200, 60), np.sqrt(eigenvalues))
    assert sr.alpha(W) == pytest.approx(float(sr.smooth_hill()(eigenvalues)), rel=1e-10)
    with jax.enable_x64(False):
        single = sr.alpha(W.astype(np.float32))
    assert single == pytest.approx(float(sr.alpha(W)), rel=1e-3)


def test_gradient_of_hill_is_the_closed_form(float64):
    """T9, with xmin = l_k counted among the k, as design.md has it."""
    eigenvalues = np.sort(np.random.default_rng(0).pareto(1.5, 20))[::-1]
    k, alpha = 10, reference_hill(eigenvalues, 10)
    expected = np.zeros(20)
    expected[: k - 1] = -((alpha - 1) ** 2) / (k * eigenvalues[: k - 1])
    expected[k - 1] = (alpha - 1) ** 2 * (k - 1) / (k * eigenvalues[k - 1])
    np.testing.assert_allclose(jax.grad(sr.hill(0.5))(eigenvalues), expected, rtol=1e-12)


def test_smooth_hill_spreads_the_gradient():
    eigenvalues = jnp.asarray(np.sort(np.random.default_rng(0).pareto(1.5, 384))[::-1], jnp.float32)

    def largest_share(estimator):
        force = jnp.abs(jax.grad(estimator)(eigenvalues) * eigenvalues)
        return float(force.max() / force.sum())

    assert largest_share(sr.hill(0.5)) == pytest.approx(0.5, abs=0.01)
    assert largest_share(sr.smooth_hill()) < 0.05


@pytest.mark.parametrize("estimator", [sr.hill(0.5), sr.smooth_hill()])
def test_constant_and_zero_spectra_are_capped_without_gradient(estimator):
    for eigenvalues in (jnp.ones(12), jnp.zeros(12)):
        value, gradient = jax.value_and_grad(estimator)(eigenvalues)
        assert value == 100
        assert jnp.all(gradient == 0)


def test_zero_eigenvalues_keep_alpha_finite_and_scale_free(float64):
    W = with_singular_values(np.random.default_rng(0), (30, 20), np.linspace(1, 2, 4))
    value, gradient = jax.value_and_grad(sr.alpha)(W)
    assert jnp.isfinite(value)
    assert abs(jnp.vdot(W, gradient)) < 1e-9 * np.linalg.norm(gradient)


def test_alpha_moves_as_the_gradient_says(float64):
    W = np.random.default_rng(0).standard_normal((30, 20))
    check_grads(sr.alpha, (W,), order=1, modes=("fwd", "rev"), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sr.hill(0), "^fraction is 0; expected a fraction"),
        (lambda: sr.hill(1.5), "^fraction is 1.5; expected a fraction"),
        (lambda: sr.smooth_hill(0, 0.5), "^low is 0; expected a fraction"),
        (lambda: sr.smooth_hill(0.5, 0.1), "expected low <= high"),
        (lambda: sr.alpha(jnp.ones((5, 1))), "has 1 eigenvalue; expected at least 2"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
