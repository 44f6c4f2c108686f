"""The matrices of attention layers, whose heads and fused projections have axes of their own."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from weights import matrix, weight

import spectral_reg as sr

NUM_LAYERS, D, HEADS, DIM = 5, 12, 4, 2


def filled(shapes):
    """A tree of weights from one of shapes."""
    return jax.tree.map(lambda shape: weight(*shape.shape), shapes)


def check_attention(matrices, kernels, prefix):
    """The matrices of an attention layer are those of its projections as plain dense layers."""
    for projection in ("query", "key", "value"):
        kernel = kernels[f"{prefix}{projection}/kernel"]
        expected = kernel.reshape(*kernel.shape[:-2], HEADS * DIM)
        np.testing.assert_array_equal(matrices[f"{prefix}{projection}/kernel"], expected)
    out = kernels[f"{prefix}out/kernel"]
    expected = out.reshape(*out.shape[:-3], HEADS * DIM, D)
    np.testing.assert_array_equal(matrices[f"{prefix}out/kernel"], expected)


def by_name(params):
    return {sr.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}


@pytest.mark.parametrize("conv", ["slices", "flatten"])
def test_nnx_attention(conv):
    def create():
        return nnx.MultiHeadAttention(HEADS, D, HEADS * DIM, rngs=nnx.Rngs(0), decode=False)

    state = filled(nnx.state(nnx.eval_shape(create), nnx.Param))
    check_attention(sr.layer_matrices(state, conv=conv), by_name(state), "")


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = nn.MultiHeadDotProductAttention(HEADS, qkv_features=HEADS * DIM, name="mha")(x, x)
        return nn.Dense(D, name="fc")(x), None


@pytest.mark.parametrize("conv", ["slices", "flatten"])
def test_linen_attention_stacked_by_a_scan(conv):
    stack = nn.scan(
        Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=NUM_LAYERS
    )
    shapes = jax.eval_shape(stack().init, jax.random.key(0), jnp.ones((1, 3, D)), None)
    params = filled(shapes["params"])
    matrices = sr.layer_matrices(params, conv=conv)
    check_attention(matrices, by_name(params), "mha/")
    assert matrices["fc/kernel"].shape == (NUM_LAYERS, D, D)
    spectra = jax.eval_shape(functools.partial(sr.layer_spectra, conv="pooled"), params)
    assert {len(spectrum) for spectrum in spectra.values()} == {NUM_LAYERS}


def test_stacked_dense_layers_are_no_attention_heads():
    names = [f"attention/{layer}/kernel" for layer in ("query", "key", "value", "out")]
    params = {name: weight(NUM_LAYERS, D, D) for name in names}
    for name, W in sr.layer_matrices(params).items():
        np.testing.assert_array_equal(W, params[name])


def test_a_mask_takes_no_neighbour_away():
    layers = {"query": weight(D, HEADS, DIM), "out": weight(HEADS, DIM, D)}
    params = {layer: {"kernel": kernel} for layer, kernel in layers.items()}
    mask = sr.by_path("out/*")
    expected = layers["out"].reshape(HEADS * DIM, D)
    assert sr.layer_matrices(params, mask=mask)["out/kernel"].shape == expected.shape
    optimizer = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, mask=mask)
    _, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert state.penalty == pytest.approx(float(sr.log_stable_rank(expected)), rel=1e-5)
    assert matrix("out/kernel", layers["out"]).shape == (HEADS, DIM, D)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("qkv", (D, 3, HEADS, DIM), lambda W: W.transpose(1, 0, 2, 3).reshape(3, D, -1)),
        ("qkv", (7, D, 3, HEADS, DIM), lambda W: W.swapaxes(1, 2).reshape(7, 3, D, -1)),
        ("qkv", (3, D, HEADS, DIM), lambda W: W.reshape(3, D, -1)),
        ("qkv", (D, 3, DIM), lambda W: W.transpose(1, 0, 2)),
        ("qkv", (3, D, DIM), lambda W: W),
        ("qkv", (7, D, 3 * D), lambda W: W.reshape(7, D, 3, D).swapaxes(1, 2)),
        ("qkv", (7, D, 2 * D), lambda W: W),  # grouped queries, nobody knows how many
        ("kv", (D, 2, HEADS, DIM), lambda W: W.transpose(1, 0, 2, 3).reshape(2, D, -1)),
    ],
)
def test_fused_query_key_and_value(name, shape, expected):
    W = weight(*shape)
    for conv in ("slices", "flatten"):
        np.testing.assert_array_equal(matrix(f"attn/{name}/kernel", W, conv=conv), expected(W))
