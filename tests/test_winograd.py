"""Winograd's convolution against XLA's, value and gradient, and where the network takes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples.training import mini_alexnet
from examples.training.winograd import convolve


def _direct(images, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=numbers, precision="highest"
    )


@pytest.mark.parametrize(
    ("shape", "features"),
    [((3, 10, 10, 96), 256), ((1, 10, 10, 1), 1), ((2, 13, 6, 7), 5), ((2, 1, 3, 4), 2)],
)
def test_value_and_gradient_are_those_of_the_definition(shape, features):
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (5, 5, shape[-1], features))
    weights = jax.random.normal(keys[2], (*shape[:3], features))

    @jax.jit
    def all_of(images, kernel):
        found = [jax.vjp(way, images, kernel) for way in (convolve, _direct)]
        return [(value, *vjp(weights)) for value, vjp in found]

    for ours, direct in zip(*all_of(images, kernel), strict=True):
        assert (ours.dtype, ours.shape) == (direct.dtype, direct.shape)
        assert jnp.linalg.norm(ours - direct) < 5e-5 * jnp.linalg.norm(direct)


def test_in_float64_only_rounding_differs():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        images, kernel = rng.normal(size=(2, 10, 10, 3)), rng.normal(size=(5, 5, 3, 4))
        np.testing.assert_allclose(
            convolve(jnp.asarray(images), jnp.asarray(kernel)),
            _direct(jnp.asarray(images), jnp.asarray(kernel)),
            atol=1e-11,
        )


def test_mini_alexnet_takes_it_and_its_logits_stay(monkeypatch):
    model = mini_alexnet.MiniAlexNet(nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (130, 28, 28, 3))
    graph, state = nnx.split(model)

    def logits():
        return jax.jit(lambda state: nnx.merge(graph, state)(images, train=False))(state)

    ours = logits()
    parts = []
    monkeypatch.setattr(
        mini_alexnet, "convolve", lambda part, kernel: parts.append(part) or _direct(part, kernel)
    )
    np.testing.assert_allclose(logits(), ours, atol=2e-4)
    assert [len(part) for part in parts] == [32] * 4 + [2]


def test_in_a_scan_the_network_is_the_same_function():
    images = jax.random.normal(jax.random.key(0), (4, 28, 28, 3))
    plain, in_scan = (
        mini_alexnet.MiniAlexNet(nnx.Rngs(0), in_scan=option) for option in (False, True)
    )
    np.testing.assert_allclose(in_scan(images, train=False), plain(images, train=False), atol=2e-4)
