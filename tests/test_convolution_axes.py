"""The matrices of convolutions of Flax and Equinox, and of live Equinox models."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from weights import matrix, matrix_of, weight

import spectral_reg as sr


@pytest.mark.parametrize("window", [(3,), (3, 2), (3, 2, 4)])
def test_convolutions_of_flax_and_equinox(window):
    flax = nnx.eval_shape(lambda: nnx.Conv(3, 5, window, rngs=nnx.Rngs(0)))
    kernel = weight(*flax.kernel.shape)
    assert kernel.shape == (*window, 3, 5)
    np.testing.assert_array_equal(matrix("conv/kernel", kernel), kernel)
    flat = kernel.reshape(-1, 5)
    np.testing.assert_array_equal(matrix("conv/kernel", kernel, conv="flatten"), flat)
    create = functools.partial(eqx.nn.Conv, len(window), 3, 5, window)
    torch_like = weight(*eqx.filter_eval_shape(create, key=jax.random.key(0)).weight.shape)
    np.testing.assert_array_equal(
        matrix("conv/weight", torch_like)[(0,) * len(window)],
        torch_like[(..., *(0,) * len(window))].T,
    )
    expected = np.moveaxis(torch_like, (0, 1), (-1, -2)).reshape(-1, 5)
    np.testing.assert_array_equal(matrix("conv/weight", torch_like, conv="flatten"), expected)


def equinox_conv(*shape, **options):
    create = functools.partial(eqx.nn.Conv, len(shape) - 2, shape[1], shape[0], shape[2:])
    return create(**options, key=jax.random.key(0))


@pytest.mark.parametrize("window", [(3,), (3, 2), (3, 2, 4)])
def test_convolutions_of_a_live_equinox_model_are_known_by_their_type(window):
    net = eqx.nn.Sequential([equinox_conv(5, 4, *window), eqx.nn.Lambda(jnp.tanh)])
    W = net.layers[0].weight
    expected = np.moveaxis(W, (0, 1), (-1, -2))
    for params in (net, eqx.filter(net, eqx.is_array), {"value": net.layers[0]}):
        (name,) = sr.layer_matrices(params)
        np.testing.assert_array_equal(matrix_of(params, name), expected)
        flat = matrix_of(params, name, conv="flatten")
        np.testing.assert_array_equal(flat, expected.reshape(-1, 5))
    as_told = {"layers/0/weight": sr.MatrixAxes(rows=(0, 1), cols=2)}
    assert matrix_of(net, "layers/0/weight", axes=as_told).shape[-2:] == (20, 3)


def test_groups_and_stacks_of_a_live_equinox_model():
    grouped = equinox_conv(6, 4, 3, groups=2)
    matrices = matrix_of(grouped, "weight")
    assert matrices.shape == (2, 3, 2, 3)
    for group in range(2):
        np.testing.assert_array_equal(matrices[group, 1], grouped.weight[3 * group :][:3, :, 1].T)
    depthwise = equinox_conv(6, 6, 3, groups=6)
    np.testing.assert_array_equal(matrix_of(depthwise, "weight"), depthwise.weight[:, 0].T)
    up = eqx.nn.ConvTranspose1d(4, 6, 3, key=jax.random.key(0))
    np.testing.assert_array_equal(matrix_of(up, "weight"), up.weight.transpose(2, 1, 0))
    keys = jax.random.split(jax.random.key(0), 7)
    blocks = eqx.filter_vmap(lambda key: eqx.nn.Conv1d(4, 5, 3, key=key))(keys)
    assert matrix_of(blocks, "weight").shape == (7, 3, 4, 5)
    assert matrix_of(blocks, "weight", conv="flatten").shape == (7, 12, 5)
    dense = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 5, key=key))(keys)
    assert matrix_of({"conv": dense}, "conv/weight", conv="flatten").shape == (7, 5, 4)


def test_scales_of_equinox_are_no_matrices_though_they_are_stacked():
    keys = jax.random.split(jax.random.key(0), 7)
    scales = eqx.filter_vmap(lambda key: eqx.nn.LayerNorm(6))(keys)
    params = {"ln": scales, "wide": eqx.nn.LayerNorm((3, 4)), "fc": {"weight": weight(3, 2)}}
    assert params["ln"].weight.shape == (7, 6)
    assert set(sr.layer_matrices(params)) == {"fc/weight"}


def test_a_penalty_on_a_live_equinox_model_is_that_of_its_matrices():
    net = equinox_conv(8, 6, 5)
    W = jnp.moveaxis(net.weight, (0, 1), (-1, -2))
    expected = jnp.sum(sr.log_stable_rank(W))
    assert sr.spectral_penalty(net, sr.log_stable_rank) == pytest.approx(float(expected), rel=1e-5)
    params = eqx.filter(net, eqx.is_array)
    for tracking in ("exact", "warm"):
        penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, tracking=tracking)
        zeros, state = jax.tree.map(jnp.zeros_like, params), penalty.init(params)
        _, state = jax.jit(penalty.update)(zeros, state, params)
        assert state.penalty == pytest.approx(float(expected), rel=1e-3)
