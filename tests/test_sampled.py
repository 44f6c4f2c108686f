"""Metrics of blocks against the same blocks cut by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import DEGENERATE

import spectral_reg as sr


def matrix(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_a_block_as_large_as_the_matrix_is_the_matrix():
    W = matrix((48, 24))
    metric = sr.sampled(sr.alpha, key=jax.random.key(0), num_blocks=1, size=24, aspect=2.0)
    value, gradient = jax.jit(jax.value_and_grad(metric))(W)
    expected, expected_gradient = jax.jit(jax.value_and_grad(sr.alpha))(W)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_pools_the_blocks():
    W, key = matrix((40, 30)), jax.random.key(3)
    for_rows, for_cols = jax.random.split(key)
    rows = jax.random.randint(for_rows, (5,), 0, 40 - 16 + 1)
    cols = jax.random.randint(for_cols, (5,), 0, 30 - 8 + 1)
    blocks = [np.asarray(W)[i : i + 16, j : j + 8] for i, j in zip(rows, cols, strict=True)]
    pooled = np.sort(np.linalg.svd(np.stack(blocks), compute_uv=False).ravel() ** 2)[::-1]
    metric = sr.sampled(sr.matrix_entropy, key=key, num_blocks=5, size=8, aspect=2.0)
    expected = sr.matrix_entropy.of_eigenvalues(jnp.asarray(pooled))
    np.testing.assert_allclose(jax.jit(metric)(W), expected, rtol=1e-5)


def test_depends_on_the_key_alone():
    W = matrix((64, 64))

    @jax.jit
    def value(key):
        return sr.sampled(sr.alpha, key=key, size=16)(W)

    values = [value(jax.random.key(seed)) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_removes_the_bias_of_the_shape():
    alpha = jax.jit(sr.alpha)
    metric = jax.jit(sr.sampled(sr.alpha, key=jax.random.key(0), num_blocks=8, size=64))
    square, long = matrix((256, 256)), matrix((1024, 128))
    assert abs(alpha(square) - alpha(long)) > 1
    assert abs(metric(square) - metric(long)) < 0.1


@pytest.mark.parametrize("shape", [(3, 40, 30), (2, 3, 30, 40)])
def test_a_stack_is_its_matrices(shape):
    W = matrix(shape)
    metric = jax.jit(sr.sampled(sr.stable_rank, key=jax.random.key(0), num_blocks=3, size=10))
    one_by_one = [metric(one) for one in W.reshape(-1, *shape[-2:])]
    np.testing.assert_allclose(metric(W).ravel(), jnp.stack(one_by_one), rtol=1e-5)


def test_finite_on_degenerate_spectra():
    metric = sr.sampled(sr.alpha, key=jax.random.key(0), num_blocks=2, size=3)
    value_and_gradient = jax.jit(jax.value_and_grad(metric))
    for case, W in DEGENERATE.items():
        value, gradient = value_and_gradient(jnp.asarray(W, jnp.float32))
        assert jnp.isfinite(value), case
        assert jnp.isfinite(gradient).all(), case


def test_adds_up_in_a_penalty():
    params = {"fc": {"kernel": matrix((40, 30))}}
    metric = sr.target(sr.sampled(sr.alpha, key=jax.random.key(0), size=10), 3.0)
    transformation = sr.add_spectral_penalty(metric, 0.1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(transformation.update)(zeros, transformation.init(params), params)
    assert jnp.linalg.norm(updates["fc"]["kernel"]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"size": 1}, "size is 1"),
        ({"aspect": 0.5}, "aspect is 0.5"),
        ({"size": 31}, r"\(31, 31\) in a matrix of \(40, 30\); expected at most 30"),
        ({"size": 21, "aspect": 2.0}, r"\(42, 21\) in a matrix .* at most 20 with"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        sr.sampled(sr.alpha, key=jax.random.key(0), **options)(matrix((40, 30)))
