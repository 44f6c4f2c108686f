"""Fused attention and gates: each part against its matrix cut by hand."""

import numpy as np
import pytest
from layouts import assert_is_spectrum_of, measured, normal, tensor

import fitting

QKV = ("query", "key", "value")


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("attn/in_proj_weight", (60, 20), 0),
        ("attn/qkv/kernel", (20, 60), 1),
        ("h/0/attn/c_attn/kernel", (60, 20), 0),  # GPT-2 stores [in, out]; read as PyTorch's
        ("h/0/attn/c_attn/weight", (20, 60), 1),
        ("mixer/Wqkv/kernel", (20, 60), 1),
        ("to_qkv/kernel", (20, 60), 1),
    ],
)
def test_fused_attention_has_three_equal_parts(name, shape, axis):
    W = normal(*shape)
    kinds, found, _ = measured({name: W})
    assert kinds == {name: "qkv"}
    for part, matrix in zip(QKV, np.split(W, 3, axis=axis), strict=True):
        assert_is_spectrum_of(found[name, part], matrix)


def test_fused_attention_narrower_than_the_features_is_cut_by_the_output_beside_it():
    W = normal(20, 36)
    _, found, _ = measured({"a/qkv/kernel": W, "a/proj/kernel": normal(12, 20)})
    assert_is_spectrum_of(found["a/qkv/kernel", "key"], W[:, 12:24])


def test_grouped_queries_stay_whole_and_the_kind_says_so():
    W = normal(20, 36)
    for beside in ({}, {"a/o_proj/kernel": normal(20, 20)}):
        kinds, found, _ = measured({"a/qkv_proj/kernel": W, **beside})
        assert kinds["a/qkv_proj/kernel"] == "fused qkv"
        assert_is_spectrum_of(found["a/qkv_proj/kernel", ""], W)


def test_heads_that_take_turns_are_told_by_the_configuration_alone():
    name, heads, dim = "layers/0/attention/query_key_value/kernel", 4, 5
    W = normal(20, 60)
    kinds, found, _ = measured({name: W})
    assert kinds == {name: "fused qkv"}
    assert_is_spectrum_of(found[name, ""], W)
    config = {"model_type": "gpt_neox", "num_attention_heads": heads}
    kinds, found, _ = measured({name: W}, config=config)
    assert kinds == {name: "qkv"}
    for number, part in enumerate(QKV):
        matrix = W.reshape(20, heads, 3, dim)[:, :, number].reshape(20, 20)
        assert_is_spectrum_of(found[name, part], matrix)


def test_key_and_value_together():
    W = normal(20, 16)
    _, found, _ = measured({"a/to_kv/kernel": W})
    assert_is_spectrum_of(found["a/to_kv/kernel", "value"], W[:, 8:])


@pytest.mark.parametrize("reverse", ["", "_reverse"])
@pytest.mark.parametrize(
    ("number", "kind", "gates"),
    [(4, "lstm", ("input", "forget", "cell", "output")), (3, "gru", ("reset", "update", "new"))],
)
def test_gates_of_torch(number, kind, gates, reverse):
    ih, hh = f"rnn/weight_ih_l0{reverse}", f"rnn/weight_hh_l0{reverse}"
    weights = {ih: normal(number * 7, 11), hh: normal(number * 7, 7), "rnn/bias_ih_l0": normal(28)}
    kinds, found, skipped = measured(weights)
    assert kinds == {ih: kind, hh: kind}
    assert skipped == {"rnn/bias_ih_l0": "a scalar or a vector"}
    for name in (ih, hh):
        for gate, matrix in zip(gates, np.split(weights[name], number), strict=True):
            assert_is_spectrum_of(found[name, gate], matrix)


def test_gates_of_torch_with_a_projection():
    weights = {
        "weight_ih_l0": normal(32, 11), "weight_hh_l0": normal(32, 3), "weight_hr_l0": normal(3, 8)
    }  # fmt: skip
    kinds, found, _ = measured(weights)
    assert kinds == {"weight_ih_l0": "lstm", "weight_hh_l0": "lstm", "weight_hr_l0": "lstm"}
    assert_is_spectrum_of(found["weight_hh_l0", "cell"], weights["weight_hh_l0"][16:24])


def test_gates_of_a_plain_rnn_are_one():
    kinds, found, _ = measured({"weight_ih_l0": normal(8, 11), "weight_hh_l0": normal(8, 8)})
    assert set(kinds.values()) == {"rnn"}
    assert {index for _, index in found} == {""}


@pytest.mark.parametrize(
    ("number", "kind", "gates"),
    [(4, "lstm", ("input", "forget", "cell", "output")), (3, "gru", ("update", "reset", "new"))],
)
def test_gates_of_keras_convolutions(number, kind, gates):
    weights = {
        "rnn/kernel": normal(3, 3, 5, number * 7),
        "rnn/recurrent_kernel": normal(3, 3, 7, number * 7),
    }
    kinds, found, _ = measured(weights)
    assert set(kinds.values()) == {kind}
    for name, W in weights.items():
        for gate, matrix in zip(gates, np.split(W[2, 1], number, axis=1), strict=True):
            assert_is_spectrum_of(found[name, f"2,1,{gate}"], matrix)
    _, found, _ = measured(weights, conv="pooled")
    assert found["rnn/kernel", gates[1]].eigenvalues.size == 9 * 5


@pytest.mark.parametrize(
    ("number", "kind", "gates"),
    [(4, "lstm", ("input", "forget", "cell", "output")), (3, "gru", ("update", "reset", "new"))],
)
def test_gates_of_keras(number, kind, gates):
    weights = {
        "lstm/cell/kernel": normal(11, number * 7),
        "lstm/cell/recurrent_kernel": normal(7, number * 7),
    }
    kinds, found, _ = measured(weights)
    assert set(kinds.values()) == {kind}
    for name, W in weights.items():
        for gate, matrix in zip(gates, np.split(W, number, axis=1), strict=True):
            assert_is_spectrum_of(found[name, gate], matrix)


@pytest.mark.parametrize(("number", "kind"), [(4, "lstm"), (3, "gru")])
def test_gates_of_nnx_cells(number, kind):
    from flax import nnx

    cell = {4: nnx.OptimizedLSTMCell, 3: nnx.GRUCell}[number](11, 7, rngs=nnx.Rngs(0))
    layers = fitting.evaluate(cell, progress=False).layers.set_index(["name", "index"])
    assert set(layers["kind"]) == {kind}
    gate = {4: "cell", 3: "update"}[number]
    kernel = np.asarray(cell.dense_i.kernel[...]).astype(float)
    place = {4: 2, 3: 1}[number]
    top = np.linalg.svd(kernel[:, place * 7 : (place + 1) * 7], compute_uv=False)[0]
    assert layers.loc[("dense_i/kernel", gate), "spectral_norm"] == pytest.approx(top)


def test_gates_of_onnx_have_an_order_of_their_own():
    W = normal(2, 11, 28)
    kinds, found, _ = measured({"rnn/W/kernel": tensor(W, kind="lstm")})
    assert kinds == {"rnn/W/kernel": "lstm"}
    assert_is_spectrum_of(found["rnn/W/kernel", "1,forget"], W[1, :, 14:21])
