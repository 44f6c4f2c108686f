"""Winograd's convolution is XLA's, and so are both of its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import RNG
from flax import nnx

from examples.training.mini_alexnet import MiniAlexNet
from examples.training.winograd import convolve


def of_xla(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("height", "width", "channels", "features"), [(10, 10, 96, 256), (28, 28, 3, 7), (6, 13, 4, 1)]
)
def test_values_and_gradients_are_those_of_xla(height, width, channels, features):
    shapes = ((3, height, width, channels), (5, 5, channels, features))
    images, kernel = (jnp.asarray(RNG.standard_normal(s).astype(np.float32)) for s in shapes)
    weights = jnp.asarray(RNG.standard_normal((3, height, width, features)).astype(np.float32))

    @jax.jit
    def value_and_gradients(images, kernel):
        results = [jax.vjp(conv, images, kernel) for conv in (convolve, of_xla)]
        return [(value, *vjp(weights)) for value, vjp in results]

    for ours, theirs in zip(*value_and_gradients(images, kernel), strict=True):
        assert np.linalg.norm(ours - theirs) <= 3e-5 * np.linalg.norm(theirs)


def test_the_network_in_a_scan_is_the_same_function():
    images = jnp.asarray(RNG.standard_normal((4, 28, 28, 3)).astype(np.float32))
    alone, in_scan = (MiniAlexNet(nnx.Rngs(0), in_scan=option) for option in (False, True))
    expected = alone(images, train=True)
    np.testing.assert_allclose(in_scan(images, train=True), expected, rtol=1e-3, atol=1e-3)
