"""Sums over the whole spectrum, with a decomposition and by products alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import with_singular_values

import spectral_reg as sr
from examples.training import language_model

SUMS = {
    "nuclear_norm": sr.nuclear_norm,
    "matrix_entropy": sr.matrix_entropy,
    "orthogonality": sr.orthogonality,
}
EXACT = {name: jax.jit(jax.value_and_grad(metric)) for name, metric in SUMS.items()}
PRODUCTS = {
    name: jax.jit(jax.value_and_grad(sr.products_only(metric))) for name, metric in SUMS.items()
}
SHAPES = [(192, 192), (96, 320)]


def families(shape):
    rng = np.random.default_rng(0)
    rows, cols = shape
    size = min(shape)
    quantiles = (np.arange(size) + 0.5) / size
    noise = rng.standard_normal(shape)
    spikes = 3 * rng.standard_normal((rows, 3)) @ rng.standard_normal((3, cols)) / np.sqrt(rows)
    return {
        "noise": noise,
        "spikes": noise + 5 * spikes,
        "Student": rng.standard_t(2.5, shape),
        "power law 3": with_singular_values(rng, shape, quantiles**-0.25),
        "power law 2": with_singular_values(rng, shape, quantiles**-0.5),
        "decay": with_singular_values(rng, shape, np.geomspace(1, 0.01, size)),
    }


def cosine(a, b):
    return float(jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SUMS)
def test_products_give_the_sum_and_its_gradient(name, shape):
    for family, matrix in families(shape).items():
        W = jnp.asarray(matrix, jnp.float32)
        (value, gradient), (by_products, other) = EXACT[name](W), PRODUCTS[name](W)
        assert by_products == pytest.approx(float(value), rel=5e-3), family
        assert cosine(gradient, other) > 0.99, family
        assert jnp.linalg.norm(other) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=0.03)


@pytest.mark.parametrize("name", SUMS)
def test_on_a_transformer(name):
    _, params = language_model.initial(num_blocks=1, width=64, context=64)
    for path, W in sr.layer_matrices(params).items():
        (value, gradient), (by_products, other) = EXACT[name](W), PRODUCTS[name](W)
        assert by_products == pytest.approx(float(value), rel=5e-3), path
        assert cosine(gradient, other) > 0.99, path


@pytest.mark.parametrize("name", SUMS)
def test_no_decomposition_and_few_products(name):
    W = jnp.ones((2, 96, 64))
    function = jax.jit(jax.value_and_grad(lambda W: jnp.sum(sr.products_only(SUMS[name])(W))))
    text = function.lower(W).as_text()
    assert not re.search(r"syev|eigh|svd|geqrf|custom_call", text)
    assert text.count("stablehlo.dot_general") <= 16


def test_nuclear_norm_by_hand():
    W = with_singular_values(np.random.default_rng(0), (6, 4), [4, 3, 2, 1])
    U, _, Vh = np.linalg.svd(W, full_matrices=False)
    value, gradient = jax.value_and_grad(sr.nuclear_norm)(jnp.asarray(W, jnp.float32))
    assert value == pytest.approx(10, rel=1e-5)
    np.testing.assert_allclose(gradient, U @ Vh, atol=1e-4)


@pytest.mark.parametrize("scale", [None, 1.5])
@pytest.mark.parametrize("products", [False, True])
def test_orthogonality_by_hand(scale, products):
    rng = np.random.default_rng(0)
    W = rng.standard_normal((5, 8))
    X = W @ W.T
    s = np.trace(X) / 5 if scale is None else scale
    metric = sr.products_only(sr.orthogonality) if products else sr.orthogonality
    value, gradient = jax.value_and_grad(lambda W: metric(W, scale=scale))(
        jnp.asarray(W, jnp.float32)
    )
    assert value == pytest.approx(np.sum((X - s * np.eye(5)) ** 2), rel=1e-5)
    np.testing.assert_allclose(gradient, 4 * (X - s * np.eye(5)) @ W, rtol=1e-3, atol=1e-3)


def test_the_entropy_of_a_matrix_of_low_rank_is_divided_by_the_larger_logarithm():
    W = with_singular_values(np.random.default_rng(0), (64, 32), [1] * 8 + [0] * 24)
    assert sr.matrix_entropy(jnp.asarray(W, jnp.float32)) == pytest.approx(1, abs=1e-3)
    smoothed = sr.products_only(sr.matrix_entropy)(jnp.asarray(W, jnp.float32))
    assert smoothed == pytest.approx(np.log(8) / np.log(32), abs=5e-3)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("name", ["nuclear_norm", "matrix_entropy"])
def test_scales(name, scale):
    W = jnp.asarray(families((48, 32))["noise"], jnp.float32)
    value, gradient = PRODUCTS[name](W)
    scaled, scaled_gradient = PRODUCTS[name](scale * W)
    degree = 1 if name == "nuclear_norm" else 0
    assert scaled == pytest.approx(float(value) * scale**degree, rel=1e-4)
    np.testing.assert_allclose(
        scaled_gradient * scale ** (1 - degree), gradient, rtol=2e-3, atol=1e-5
    )


@pytest.mark.parametrize("name", SUMS)
def test_degenerate_spectra(name):
    for W in (jnp.zeros((6, 4)), jnp.ones((6, 4)), jnp.eye(6, 4), jnp.ones((3, 1))):
        for function in (EXACT[name], PRODUCTS[name]):
            value, gradient = function(W)
            assert jnp.isfinite(value)
            assert jnp.isfinite(gradient).all()
            if not W.any():
                assert value == 0
                assert not gradient.any()
        bad = W.at[0, 0].set(jnp.nan)
        assert jnp.isnan(PRODUCTS[name](bad)[0])


def test_stacks_types_and_targets():
    W = jnp.asarray(np.stack([families((40, 24))[name] for name in ("noise", "Student")]))
    for metric in SUMS.values():
        by_products = jax.jit(sr.products_only(metric))
        stacked, one_by_one = by_products(W), [by_products(matrix) for matrix in W]
        np.testing.assert_allclose(stacked, one_by_one, rtol=1e-4)
        narrow = jax.grad(lambda W, f=by_products: f(W))(W[0].astype(jnp.bfloat16))
        assert narrow.dtype == jnp.bfloat16
    steered = sr.target(sr.products_only(sr.matrix_entropy), 0.5)
    penalty = sr.spectral_penalty({"fc": {"kernel": W[0]}}, steered)
    entropy = sr.products_only(sr.matrix_entropy)(W[0])
    assert penalty == pytest.approx(float((entropy - 0.5) ** 2), rel=1e-5)


def test_other_metrics_are_refused():
    with pytest.raises(ValueError, match="metric is alpha; expected nuclear_norm, matrix_entropy"):
        sr.products_only(sr.alpha)
    with pytest.raises(ValueError, match="scale is inf; expected a finite number"):
        sr.orthogonality(jnp.eye(3), scale=float("inf"))
