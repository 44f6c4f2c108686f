"""Which leaves are weight matrices by their names, and what masks select among them."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fitting
import spectral_reg as sr

W = np.ones((12, 64))


@pytest.mark.parametrize(
    "name",
    [
        "ConvNormAct_0/Conv_0/kernel",
        "surface_normals/kernel",
        "surface_normals/weight",
        "transformer_blocks/0/norm1/linear/weight",
        "norm_out/linear/kernel",
        "adaLN_modulation/1/weight",
        "self_attention/layernorm_qkv/weight",
        "layers/0/weights",
        "attn/qkv_einsum/lora_a",
        "norm/kernel",  # Flax calls no scale so
        "final_norm_head/dense/w",
        "lora/lora_a",
        "attn/wq",
        "mlp/w1",
        "mlp/wi_0",
        "mlp/gating_einsum",
        "mlp/linear",
        "mixer/x_proj_weight",
        "attn/in_proj_weight",
        "rnn/weight_hh_l1_reverse",
        "rnn/recurrent_kernel",
        "rel_attn/q",
        "experts/3/w1",
        "token_embedding",
    ],
)
def test_weights_whatever_their_parents_are_called(name):
    assert sr.is_layer_matrix(name, W)
    assert list(sr.layer_matrices({name: W, "b": np.ones(3)})) == [name]
    assert name in set(fitting.evaluate({name: W}, progress=False).layers["name"])


@pytest.mark.parametrize(
    "name",
    [
        "blocks/ln_1/weight",
        "blocks/rms/weight",
        "blocks/norm/w",
        "blocks/norm1/weight",
        "blocks/norms/0/weight",
        "encoder/LayerNorm_0/scale",
        "blocks/bn2/weight",
        "blocks/post_attention_layernorm/weight",
        "blocks/attn/q_norm/weight",
        "blocks/attn/norm_added_q/weight",
        "blocks/post_norm_conv_norm/weight",
        "blocks/fc/bias",
        "blocks/fc/w_scale",
        "relative_attention_bias/embedding",
        "mamba/A_log",
        "vit/pos_embedding",
        "experts/w1",  # of two axes: nobody knows how many lie side by side
        "state/q",
    ],
)
def test_what_is_no_weight_though_it_has_two_axes(name):
    assert not sr.is_layer_matrix(name, W)
    params = {name: W, "fc": {"kernel": W}}
    assert list(sr.layer_matrices(params)) == ["fc/kernel"]
    assert sr.explain_layers(params)[name].matrices == ()
    skipped = fitting.evaluate(params, progress=False).skipped.set_index("name")
    assert skipped.loc[name, "reason"] == sr.explain_layers(params)[name].rule


def test_scales_of_torch_in_a_stack():
    state_dict = {"h.ln_1.weight": W, "h.fc.weight": W, "h.norm1.linear.weight": W,
                  "norm.weight": W, "norm.bias": np.ones(12)}  # fmt: skip
    assert set(sr.layer_matrices(sr.params_from_torch(state_dict))) == {
        "h/fc/kernel", "h/norm1/linear/kernel", "norm/kernel"
    }  # fmt: skip
    skipped = fitting.evaluate(state_dict, progress=False).skipped.set_index("name")
    assert skipped.loc["h/ln_1/scale", "reason"] == "the scale of a normalization"


class ConvNormAct(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.LayerNorm()(nn.Conv(8, (3, 3))(x)))


class NormalsNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = ConvNormAct()(ConvNormAct()(x))
        return nn.Dense(3, name="surface_normals")(nn.Dense(16)(x))


def test_all_kernels_of_a_linen_model_with_norms_in_its_names():
    shapes = jax.eval_shape(NormalsNet().init, jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    kernels = {name for name in _paths(shapes) if name.endswith("kernel")}
    assert len(kernels) == 4
    taken = {n for n, reading in sr.explain_layers(shapes).items() if reading.matrices}
    assert taken == kernels


def _paths(tree):
    return [sr.path_name(path) for path, _ in jax.tree.leaves_with_path(tree)]


def test_two_leaves_of_one_path_are_refused():
    params = {"a": {"b/kernel": W}, "a/b": {"kernel": W}}
    with pytest.raises(ValueError, match=r"two leaves have the path 'a/b/kernel'"):
        sr.layer_matrices(params)
    with pytest.raises(ValueError, match=r"two leaves have the path 'a/b/kernel'"):
        sr.add_spectral_penalty(sr.log_stable_rank, 0.1).init(params)
    with pytest.raises(ValueError, match=r"two leaves have the path 'a/b/kernel'"):
        sr.by_path("*")(params)


STACKED = {
    "blocks": {
        "ln": {"scale": np.ones((4, 8)), "bias": np.ones((4, 8))},
        "fc": {"kernel": np.ones((4, 8, 9)), "bias": np.ones((4, 9))},
    },
    "head": {"kernel": np.ones((8, 5)), "bias": np.ones(5)},
    "state": {"A_log": np.ones((8, 5))},
}


@pytest.mark.parametrize(
    ("mask", "selected"),
    [
        (sr.by_path("blocks/*"), ["blocks/fc/kernel"]),
        (sr.by_path("head*"), ["head/kernel"]),
        (sr.by_path("*", exclude="*/bias"), ["blocks/fc/kernel", "head/kernel"]),
        (sr.by_path("*", exclude=["head/*", "*/bias"]), ["blocks/fc/kernel"]),
        (sr.by_path("head*", "*/A_log"), ["head/kernel", "state/A_log"]),
        (sr.by_path("blocks/ln/scale"), ["blocks/ln/scale"]),
    ],
)
def test_a_pattern_selects_the_matrices_among_what_it_fits(mask, selected):
    assert list(sr.layer_matrices(STACKED, mask=mask)) == selected
    state = sr.add_spectral_penalty(sr.log_stable_rank, 0.1, mask=mask, every=2).init(STACKED)
    assert int(state.count) == 0
    explained = sr.explain_layers(STACKED, mask=mask)
    assert [name for name, reading in explained.items() if reading.matrices] == selected


def test_an_explicit_tree_selects_what_it_says():
    tree = jax.tree.map(lambda leaf: leaf.ndim > 1, STACKED)
    chosen = [name for name, leaf in zip(_paths(STACKED), jax.tree.leaves(STACKED), strict=True)
              if leaf.ndim > 1]  # fmt: skip
    assert list(sr.layer_matrices(STACKED, mask=tree)) == chosen
    with pytest.raises(ValueError, match=r"selects 'head/bias' of shape \(5,\); expected matrices"):
        sr.layer_matrices(STACKED, mask=jax.tree.map(lambda _: True, STACKED))


def test_patterns_are_strings():
    with pytest.raises(TypeError, match=r"by_path is given \('a', 'b'\); expected patterns"):
        sr.by_path(("a", "b"))


class EquinoxNet(eqx.Module):
    fc: eqx.nn.Linear
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(self.fc(x))


class NnxNet(nnx.Module):
    def __init__(self):
        self.fc = nnx.Linear(6, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.fc(x)


def test_a_module_as_a_mask_is_a_tree_though_it_can_be_called():
    keys = jax.random.split(jax.random.key(0))
    net = EquinoxNet(eqx.nn.Linear(6, 5, key=keys[0]), eqx.nn.Linear(5, 4, key=keys[1]))
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, net)
    assert callable(mask)
    assert list(sr.layer_matrices(net, mask=mask)) == ["fc/weight", "head/weight"]
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.log_stable_rank, 0.1, mask=mask),
        optax.add_decayed_weights(0.1, mask=mask),
    )
    updates, _ = optimizer.update(net, optimizer.init(net), net)
    np.testing.assert_array_equal(updates.fc.bias, net.fc.bias)
    assert not np.allclose(updates.fc.weight, 1.1 * net.fc.weight)
    nnx_net = NnxNet()
    for params in (nnx_net, nnx.state(nnx_net), nnx.to_pure_dict(nnx.state(nnx_net))):
        mask = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
        assert list(sr.layer_matrices(params, mask=mask)) == ["fc/kernel"]
