"""Trees of public models: stacked layers are read as the same layers one by one, bit for bit."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from model_trees import (
    DIM,
    EXPERTS,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    WIDTH,
    gemma_block,
    haiku,
    kauldron_block,
    maxtext,
    maxtext_dense_layer,
    maxtext_moe_layer,
    stacked,
)  # fmt: skip

import fitting
import spectral_reg as sr

ON_AXIS_ONE = {"*/layers/*": sr.Stacked(1)}
QUERY = (WIDTH, HEADS * DIM)


def assert_same(scanned, unscanned, stack, layer, *, num_outside=0):
    """Each matrix of a stack is bit for bit that of its layer, and nothing is lost."""
    inside = {name: W for name, W in scanned.items() if stack in name}
    assert len(scanned) == len(inside) + num_outside
    assert len(unscanned) == LAYERS * len(inside) + num_outside
    for name, W in inside.items():
        assert W.shape[0] == LAYERS
        for number in range(LAYERS):
            one = unscanned[name.replace(stack, layer.format(number))]
            np.testing.assert_array_equal(W[number], one)


@pytest.mark.parametrize("layer", [maxtext_dense_layer, maxtext_moe_layer])
@pytest.mark.parametrize("axis", [0, 1])
def test_maxtext_scanned_and_not(layer, axis):
    scanned, unscanned = maxtext(layer, axis)
    axes = {"*/layers/*": sr.Stacked(axis)}
    assert_same(
        sr.layer_matrices(scanned, axes=axes), sr.layer_matrices(unscanned),
        "/layers/", "/layers_{}/", num_outside=2,
    )  # fmt: skip
    shapes = {n: r.matrices for n, r in sr.explain_layers(unscanned).items() if "layers_0" in n}
    attention = "params/decoder/layers_0/self_attention"
    assert shapes[f"{attention}/query/kernel"] == QUERY
    assert shapes[f"{attention}/key/kernel"] == (WIDTH, KV_HEADS * DIM)
    assert shapes[f"{attention}/out/kernel"] == (HEADS * DIM, WIDTH)
    if layer is maxtext_moe_layer:
        moe = "params/decoder/layers_0/MoeBlock_0"
        assert shapes[f"{moe}/wi_0"] == (EXPERTS, WIDTH, HIDDEN)
        assert shapes[f"{moe}/gate/kernel"] == (WIDTH, EXPERTS)


@pytest.mark.parametrize("layer", [maxtext_dense_layer, maxtext_moe_layer])
def test_a_scan_axis_that_is_not_said_is_no_silent_error(layer):
    scanned, unscanned = maxtext(layer)
    for call in (sr.layer_matrices, sr.layer_spectra):
        with pytest.raises(
            ValueError,
            match=r"is of shape \(.*\), which reads as .*; expected layers stacked on the first "
            r"axis, but .*; give axes=\{'params/decoder/layers/\*': Stacked\(1\)\}",
        ):
            call(scanned)
    with pytest.raises(ValueError, match="expected layers stacked on the first axis"):
        sr.add_spectral_penalty(sr.log_stable_rank, 0.1).init(scanned)
    rules = {name: reading.rule for name, reading in sr.explain_layers(scanned).items()}
    doubtful = {name for name, rule in rules.items() if rule.startswith("in doubt")}
    matrices = {n for n in sr.layer_matrices(scanned, axes=ON_AXIS_ONE) if "/layers/" in n}
    assert matrices == doubtful
    # The report goes on, with what is likelier, and says so.
    with pytest.warns(UserWarning, match="expected layers stacked on the first axis"):
        report = fitting.evaluate(scanned, progress=False)
    told = fitting.evaluate(scanned, axes=ON_AXIS_ONE, progress=False)
    assert len(told.layers) == len(fitting.evaluate(unscanned, progress=False).layers)
    np.testing.assert_array_equal(
        report.layers["spectral_norm"].sort_values(), told.layers["spectral_norm"].sort_values()
    )


def muon(params):
    """Muon's numbers of the scanned tree, written out; None for what it leaves to Adam."""
    numbers = optax.contrib.MuonDimensionNumbers

    def of(path, leaf):
        name = sr.path_name(path)
        if "/layers/" not in name or "scale" in name:
            return None
        if "out/kernel" in name:
            return numbers((0, 2), 3)
        return numbers(0, tuple(range(2, leaf.ndim)))

    return jax.tree.map_with_path(of, params)


LOGICAL = {
    "query": ("embed", "layers", "q_heads", "kv"),
    "key": ("embed", "layers", "kv_heads", "kv"),
    "value": ("embed", "layers", "kv_heads", "kv"),
    "out": ("heads", "layers", "kv", "embed"),
}


def logical_names(path, leaf):
    """What MaxText's initializers say of the axes."""
    name = sr.path_name(path)
    if "/layers/" not in name:
        return (None,) * leaf.ndim
    return LOGICAL.get(name.split("/")[-2], ("embed", "layers", "mlp")[: leaf.ndim])


def partition_specs(params):
    return jax.tree.map_with_path(lambda p, leaf: PartitionSpec(*logical_names(p, leaf)), params)


def boxed(params):
    def box(path, leaf):
        return nn.LogicallyPartitioned(leaf, logical_names(path, leaf))

    return jax.tree.map_with_path(box, params)


def test_axes_as_users_have_them():
    scanned, unscanned = maxtext(maxtext_dense_layer)
    expected = sr.layer_matrices(scanned, axes=ON_AXIS_ONE)
    inside = {name: W for name, W in expected.items() if "/layers/" in name}

    def same(found, expected):
        assert list(found) == list(expected)
        for name, W in expected.items():
            np.testing.assert_array_equal(found[name], W)

    same(sr.layer_matrices(scanned, axes=muon(scanned)), inside)
    same(sr.layer_matrices(scanned, axes=muon), inside)
    same(sr.layer_matrices(scanned, axes=partition_specs(scanned)), expected)
    same(sr.layer_matrices(scanned, axes=partition_specs), expected)
    same(sr.layer_matrices(scanned, axes=boxed(scanned)), expected)
    same(sr.layer_matrices(boxed(scanned)), expected)  # their own metadata
    prefix = {"params": {"decoder": {"layers": sr.Stacked(1)}}}
    same(sr.layer_matrices(scanned, axes=prefix), expected)
    none = prefix | {"params": prefix["params"] | {"token_embedder": None}}
    without = {name: W for name, W in expected.items() if "token_embedder" not in name}
    same(sr.layer_matrices(scanned, axes=none), without)
    same(sr.layer_matrices(scanned, axes=ON_AXIS_ONE | {"*embedder*": None}), without)
    layers = unscanned["params"]["decoder"]["layers_0"]["mlp"]
    same(
        sr.layer_matrices(layers, axes=optax.contrib.MuonDimensionNumbers()),
        sr.layer_matrices(layers),
    )
    same(sr.layer_matrices(layers, axes=lambda params: None), sr.layer_matrices(layers))
    report = fitting.evaluate(scanned, axes=muon(scanned), progress=False)
    assert set(report.layers["name"]) == set(inside)
    assert set(fitting.evaluate(boxed(scanned), progress=False).layers["name"]) == set(expected)


@pytest.mark.usefixtures("promoted_types")
def test_a_penalty_with_muons_numbers_in_one_chain():
    scanned, _ = maxtext(maxtext_dense_layer)
    params = jax.tree.map(jnp.asarray, scanned)
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.log_stable_rank, 1e-2, axes=muon),
        optax.contrib.muon(1e-2, muon_weight_dimension_numbers=muon),
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    _, state = jax.eval_shape(
        optimizer.update, zeros, jax.eval_shape(optimizer.init, params), params
    )
    assert state[0].penalty.shape == ()


def test_kauldron():
    blocks = [kauldron_block() for _ in range(LAYERS)]
    scanned = {"encoder": {"layers": stacked(blocks, 0)}}
    unscanned = {"encoder": {f"layers_{number}": block for number, block in enumerate(blocks)}}
    one = sr.layer_matrices(unscanned)
    assert one["encoder/layers_0/attention/query/kernel"].shape == QUERY
    assert_same(sr.layer_matrices(scanned), one, "/layers/", "/layers_{}/")


def test_gemma():
    blocks = [gemma_block() for _ in range(LAYERS)]
    one = sr.layer_matrices({f"layer_{number}": block for number, block in enumerate(blocks)})
    for name, shape in {
        "attn/q_einsum/w": QUERY,
        "attn/kv_einsum/w": (2, WIDTH, KV_HEADS * DIM),
        "attn/attn_vec_einsum/w": (HEADS * DIM, WIDTH),
        "mlp/gating_einsum": (2, WIDTH, HIDDEN),
        "mlp/linear": (HIDDEN, WIDTH),
    }.items():
        assert one[f"layer_0/{name}"].shape == shape
    query = blocks[0]["attn"]["q_einsum"]["w"]
    expected = query.transpose(1, 0, 2).reshape(QUERY)
    np.testing.assert_array_equal(one["layer_0/attn/q_einsum/w"], expected)
    assert_same(sr.layer_matrices({"blocks": stacked(blocks, 0)}), one, "blocks/", "layer_{}/")


def test_haiku_layer_stack():
    scanned, unscanned = haiku()
    assert_same(
        sr.layer_matrices(scanned), sr.layer_matrices(unscanned),
        "__layer_stack_no_per_layer/block", "block_{}",
    )  # fmt: skip


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, rngs=rngs, decode=False)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.conv = nnx.Conv(WIDTH, WIDTH, (3,), feature_group_count=4, rngs=rngs)
        self.mlp = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)


@pytest.mark.parametrize("axis", [0, 1])
def test_flax_nnx_scan(axis):
    @nnx.split_rngs(splits=LAYERS)
    @functools.partial(nnx.vmap, in_axes=(nnx.StateAxes({...: 0}),), out_axes=axis)
    def create(rngs):
        return NnxBlock(rngs)

    model = {"blocks": create(nnx.Rngs(0))}
    graph, state = nnx.split(model["blocks"])
    blocks = [
        nnx.merge(graph, jax.tree.map(lambda leaf, i=i: jnp.take(leaf, i, axis), state))
        for i in range(LAYERS)
    ]
    axes = {"blocks/*": sr.Stacked(axis)}
    one = sr.layer_matrices({str(number): block for number, block in enumerate(blocks)})
    assert one["0/attention/query/kernel"].shape == QUERY
    assert_same(sr.layer_matrices(model, axes=axes), one, "blocks/", "{}/")
    # The state of a module has no types: there, a grouped convolution has to be told.
    pure = {"blocks": nnx.to_pure_dict(state)}
    told, typed = (sr.layer_matrices(tree, axes=axes) for tree in (pure, model))
    grouped = "blocks/conv/kernel"
    assert told.pop(grouped).shape == (LAYERS, 3, WIDTH // 4, WIDTH)
    assert typed.pop(grouped).shape == (LAYERS, 4, 3, WIDTH // 4, WIDTH // 4)
    for name, W in typed.items():
        np.testing.assert_array_equal(told[name], W)


class EquinoxBlock(eqx.Module):
    fc: eqx.nn.Linear
    conv: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    cell: eqx.nn.LSTMCell

    def __init__(self, key):
        self.fc = eqx.nn.Linear(WIDTH, HIDDEN, key=key)
        self.conv = eqx.nn.Conv2d(4, 6, 3, groups=2, key=key)
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.cell = eqx.nn.LSTMCell(WIDTH, 7, key=key)


def test_equinox_filter_vmap():
    keys = jax.random.split(jax.random.key(0), LAYERS)
    model = {"blocks": eqx.filter_vmap(EquinoxBlock)(keys)}
    arrays, static = eqx.partition(model["blocks"], eqx.is_array)
    blocks = [
        eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static) for i in range(LAYERS)
    ]
    one = sr.layer_matrices({str(number): block for number, block in enumerate(blocks)})
    assert one["0/cell/weight_ih"].shape == (4, WIDTH, 7)
    assert_same(sr.layer_matrices(model), one, "blocks/", "{}/")
