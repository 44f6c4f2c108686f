"""The soft and the frozen choice of xmin against the exact fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fitting
import spectral_reg as sr


def spectra():
    """20 spectra: exact and sampled power laws, heavy-tailed, Gaussian and spiked matrices."""
    rng = np.random.default_rng(0)
    u = (np.arange(120) + 0.5) / 120
    for exponent in (1.5, 2, 2.5, 3, 4):
        yield (1 - u) ** (-1 / (exponent - 1))
        yield rng.pareto(exponent - 1, 120) + 1
    for degrees in (1.5, 2.5, 3, 100, 100):
        for shape in ((300, 120), (120, 120)):
            W = rng.standard_t(degrees, shape)
            W[:, :3] *= 3
            yield np.linalg.svd(W, compute_uv=False) ** 2


SPECTRA = [np.sort(spectrum)[::-1] for spectrum in spectra()]


def test_frozen_is_the_exact_fit(float64):
    frozen = jax.jit(sr.frozen_csn())
    for eigenvalues in SPECTRA:
        exact = fitting.fit_power_law(eigenvalues).alpha
        assert frozen(eigenvalues) == pytest.approx(exact, rel=1e-9)


def test_soft_tends_to_the_exact_fit(float64):
    errors = []
    for temperature in (1e-2, 1e-3, 1e-4, 1e-5):
        soft = jax.jit(sr.soft_csn(temperature))
        exact = [fitting.fit_power_law(eigenvalues).alpha for eigenvalues in SPECTRA]
        errors.append(np.abs([float(soft(l)) for l in SPECTRA] - np.array(exact)))  # noqa: E741
    assert (np.diff(np.mean(errors, axis=1)) < 0).all()
    assert np.max(errors[-1]) < 0.01


def test_equal_and_zero_eigenvalues_as_in_the_exact_fit(float64):
    rng = np.random.default_rng(0)
    ties = np.sort(np.round(rng.pareto(1.5, 60) + 1, 1))[::-1]
    zeros = np.concatenate([ties, np.zeros(20)])
    for eigenvalues in (ties, zeros):
        exact = fitting.fit_power_law(eigenvalues).alpha
        assert jax.jit(sr.frozen_csn())(eigenvalues) == pytest.approx(exact, rel=1e-9)


def test_gradient_of_frozen_holds_xmin(float64):
    eigenvalues = SPECTRA[1]
    fit = fitting.fit_power_law(eigenvalues)
    k = fit.num_tail
    expected = np.zeros(len(eigenvalues))
    expected[:k] = -((fit.alpha - 1) ** 2) / (k * eigenvalues[:k])
    expected[k - 1] *= -(k - 1)
    np.testing.assert_allclose(jax.jit(jax.grad(sr.frozen_csn()))(eigenvalues), expected, rtol=1e-8)


def test_gradient_of_soft_agrees_with_finite_differences(float64):
    eigenvalues = SPECTRA[1][::3]
    soft, step = jax.jit(sr.soft_csn(0.05)), 1e-6
    gradient = jax.jit(jax.grad(soft))(eigenvalues)
    for index in (0, 5, 20, 39):
        moved = [eigenvalues.copy(), eigenvalues.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        difference = (soft(moved[0]) - soft(moved[1])) / (2 * step)
        assert gradient[index] == pytest.approx(float(difference), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("estimator", [sr.frozen_csn(), sr.soft_csn()])
def test_degenerate_spectra(estimator):
    healthy = jnp.asarray(SPECTRA[1], jnp.float32)
    zeros = jnp.zeros_like(healthy)
    batch = jnp.stack([healthy, zeros, zeros + 1, zeros.at[0].set(1)])
    values, vjp = jax.jit(lambda batch: jax.vjp(estimator, batch))(batch)
    (gradient,) = vjp(jnp.ones_like(values))
    assert values[0] == pytest.approx(fitting.fit_power_law(SPECTRA[1]).alpha, rel=0.05)
    assert jnp.isfinite(gradient).all()
    assert jnp.all(values[1:] == 100)
    assert jnp.all(gradient[1:] == 0)
    assert jnp.any(gradient[0] != 0)


@pytest.mark.parametrize("estimator", [sr.frozen_csn(), sr.soft_csn()])
def test_alpha_with_a_search_is_scale_free(float64, estimator):
    W = np.random.default_rng(0).standard_t(3, (60, 30))
    gradient = jax.jit(jax.grad(lambda W: sr.alpha(W, estimator=estimator)))(W)
    assert abs(jnp.vdot(W, gradient)) < 1e-10 * np.linalg.norm(W) * np.linalg.norm(gradient)


def test_bad_input():
    with pytest.raises(ValueError, match="temperature is 0; expected"):
        sr.soft_csn(0)
    with pytest.raises(ValueError, match="has 2 eigenvalues; expected at least 3"):
        sr.frozen_csn()(jnp.ones(2))
