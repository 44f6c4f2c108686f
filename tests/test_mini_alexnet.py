"""MiniAlexNet: the papers' sizes, Flax's pooling, and the edge of its first spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples.training.mini_alexnet import MiniAlexNet, chunked, max_pool


@pytest.fixture(scope="module")
def model():
    return MiniAlexNet(nnx.Rngs(0))


def test_shapes_and_number_of_parameters_are_the_papers(model):
    assert model.fc1.kernel.shape == (4096, 384)
    assert model.fc2.kernel.shape == (384, 192)
    assert model.fc3.kernel.shape == (192, 10)
    assert model(jnp.zeros((2, 28, 28, 3)), train=False).shape == (2, 10)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param, nnx.BatchStat)))
    assert count == 2_272_458


@pytest.mark.parametrize("side", [28, 10, 8])
def test_max_pool_and_its_gradient_are_flax_with_same_padding(side):
    images = jax.random.normal(jax.random.key(side), (2, side, side, 4)) - 3
    weights = jax.random.normal(jax.random.key(1), (2, -(-side // 3), -(-side // 3), 4))

    def flax_pool(x):
        return nnx.max_pool(x, (3, 3), (3, 3), "SAME")

    @jax.jit
    def value_and_gradient(x):
        results = [jax.vjp(pool, x) for pool in (max_pool, flax_pool)]
        return [(value, vjp(weights)[0]) for value, vjp in results]

    ours, flax = value_and_gradient(images)
    np.testing.assert_array_equal(ours[0], flax[0])
    np.testing.assert_array_equal(ours[1], flax[1])


@pytest.mark.parametrize(
    ("init", "fc1_edge", "fc2_edge"), [("glorot", 3.12, 3.89), ("original", 2.414, 3.007)]
)
def test_init_puts_the_marchenko_pastur_edge_where_the_theory_has_it(init, fc1_edge, fc2_edge):
    model = MiniAlexNet(nnx.Rngs(0), init)
    for layer, edge in ((model.fc1, fc1_edge), (model.fc2, fc2_edge)):
        rows, cols = layer.kernel.shape
        variance = float(jnp.var(layer.kernel[...]))
        assert variance * rows * (1 + np.sqrt(cols / rows)) ** 2 == pytest.approx(edge, rel=0.01)
        np.testing.assert_allclose(layer.bias[...], 0.1)


def test_training_normalizes_by_the_batch_and_remembers_one_percent(model):
    images = jax.random.normal(jax.random.key(0), (8, 28, 28, 3))
    trained = nnx.clone(model)
    trained(images, train=True)
    pooled = max_pool(nnx.relu(model.conv1(images)))
    np.testing.assert_allclose(trained.norm1.mean[...], 0.01 * pooled.mean((0, 1, 2)), rtol=1e-4)
    assert model.norm1.epsilon == 1e-3


def test_an_unknown_init_is_refused():
    with pytest.raises(ValueError, match="init is 'he'; expected one of glorot, original"):
        MiniAlexNet(nnx.Rngs(0), "he")


def test_a_convolution_in_chunks_is_the_whole_one_and_so_is_its_gradient():
    layer = nnx.Conv(3, 4, (5, 5), rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (70, 9, 9, 3))

    graph, state = nnx.split(layer)

    @jax.jit
    def gradients(state, images):
        def loss(whole, state, images):
            model = nnx.merge(graph, state)
            return ((model(images) if whole else chunked(model, images)) ** 2).sum()

        return [jax.grad(loss, (1, 2))(whole, state, images) for whole in (True, False)]

    assert chunked(lambda part: part[:, :1] * len(part), images)[[0, 69], 0, 0, 0].tolist() == [
        images[0, 0, 0, 0] * 32,
        images[69, 0, 0, 0] * 6,
    ]
    whole, in_chunks = gradients(state, images)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(in_chunks), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_dropout_drops_the_dense_outputs_in_training_alone():
    model = MiniAlexNet(nnx.Rngs(0), dropout=0.5)
    images = jax.random.normal(jax.random.key(0), (2, 28, 28, 3))
    first, other = (model(images, train=True, rngs=nnx.Rngs(dropout=seed)) for seed in (0, 1))
    assert abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(model(images, train=False), model(images, train=False))


def test_dense_batch_norm_is_an_option():
    model = MiniAlexNet(nnx.Rngs(0), dense_norm=True)
    assert (model.norm3.num_features, model.norm4.num_features) == (384, 192)
    assert model(jnp.zeros((2, 28, 28, 3)), train=False).shape == (2, 10)
