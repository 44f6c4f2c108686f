"""How weights are laid out, from names and shapes: each layout against its matrices cut by hand."""

import json
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import save_file

import fitting
import spectral_reg as sr
from fitting._checkpoints import Tensor
from fitting._evaluation._layouts import plan
from fitting._evaluation._unit import spectra

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def tensor(array, **fields):
    return Tensor(array.shape, str(array.dtype), partial(np.asarray, array), **fields)


def measured(weights, **options):
    """Kinds and eigenvalues by name and index, and the reasons of what is skipped."""
    tensors = {n: w if isinstance(w, Tensor) else tensor(w) for n, w in weights.items()}
    units, skipped = plan(tensors, **options)
    kinds = {unit.name: unit.kind for unit in units}
    found = {(unit.name, s.index): s for unit in units for s in spectra(unit)}
    assert set(tensors) <= set(kinds) | set(skipped), "a tensor is not accounted for"
    return kinds, found, {name: reason for name, (_, reason) in skipped.items()}


def assert_is_spectrum_of(spectrum, matrix):
    expected = np.linalg.svd(matrix, compute_uv=False) ** 2
    np.testing.assert_allclose(spectrum.eigenvalues, expected, rtol=1e-9, atol=1e-12)
    assert sorted(spectrum.shape) == sorted(matrix.shape)


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


def test_stacked_experts():
    stored = normal(3, 20, 12)
    weights = {
        "mlp/experts/down_proj": stored,
        "moe/experts/kernel": stored,
        # [experts, out, in] that was read as a convolution of one dimension
        "torch/experts/kernel": tensor(stored.transpose(2, 1, 0), origin="torch.experts.weight"),
        "mlp/experts/down_proj_bias": normal(3, 12),
    }
    kinds, found, skipped = measured(weights)
    assert set(skipped) == {"mlp/experts/down_proj_bias"}
    assert set(kinds.values()) == {"experts"}
    for name in kinds:
        for expert in range(3):
            assert_is_spectrum_of(found[name, str(expert)], stored[expert])


def test_convolutions_of_one_dimension_are_told_from_stacks():
    W = normal(3, 8, 12)
    kinds, found, _ = measured(
        {"a/kernel": tensor(W, origin="a.weight"), "b/kernel": W, "conv_1/kernel": W},
        conv="flatten",
    )
    assert kinds == {"a/kernel": "conv", "b/kernel": "stack", "conv_1/kernel": "conv"}
    for name in ("a/kernel", "conv_1/kernel"):
        assert_is_spectrum_of(found[name, ""], W.reshape(24, 12))
    assert_is_spectrum_of(found["b/kernel", "2"], W[2])


def test_grouped_depthwise_and_transposed_convolutions():
    grouped, depthwise, turned = normal(3, 3, 4, 12), normal(3, 3, 1, 16), normal(3, 3, 12, 4)
    weights = {
        "grouped/kernel": tensor(grouped, kind="conv", groups=2),
        "depthwise/kernel": tensor(depthwise, kind="conv", groups=16),
        "turned/kernel": tensor(turned, kind="conv_transpose", groups=2),
        "bare/kernel": depthwise,
    }
    kinds, found, _ = measured(weights)
    assert kinds["turned/kernel"] == "conv_transpose"
    assert_is_spectrum_of(found["grouped/kernel", "1,2,0"], grouped[2, 0, :, 6:])
    assert_is_spectrum_of(found["turned/kernel", "1,2,0"], turned[2, 0, 6:])
    for name in ("depthwise/kernel", "bare/kernel"):
        assert_is_spectrum_of(found[name, ""], depthwise.reshape(9, 16))
    _, found, _ = measured({"grouped/kernel": weights["grouped/kernel"]}, conv="pooled")
    assert found["grouped/kernel", ""].squared_norms.size == 18
    assert found["grouped/kernel", ""].eigenvalues.size == 18 * 4


def test_separable_convolution_of_keras():
    depthwise, pointwise = normal(3, 3, 8, 2), normal(1, 1, 16, 12)
    kinds, found, _ = measured({"s/depthwise_kernel": depthwise, "s/pointwise_kernel": pointwise})
    assert_is_spectrum_of(found["s/depthwise_kernel", ""], depthwise.reshape(9, 16))
    assert_is_spectrum_of(found["s/pointwise_kernel", "0,0"], pointwise[0, 0])
    assert set(kinds.values()) == {"dense", "conv"}


@pytest.mark.parametrize("window", [(2, 3), (5, 2)])
def test_convolution_of_whole_inputs(float64, window):
    kernel, size = normal(*window, 4, 6), (4, 5)
    _, found, _ = measured(
        {"c/kernel": kernel, "fc/kernel": normal(9, 7)}, conv=sr.conv_operator(4, 5)
    )
    expected = np.asarray(sr.conv_operator(*size)(kernel))
    np.testing.assert_allclose(found["c/kernel", ""].eigenvalues, expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"'c/kernel' has one of 2"):
        measured({"c/kernel": kernel}, conv=sr.conv_operator(8))


@pytest.mark.parametrize(
    ("A", "B", "joint"),
    [
        ("q/lora_A/weight", "q/lora_B/weight", "q/lora"),
        ("q/lora_A/default/weight", "q/lora_B/default/weight", "q/lora/default"),
        ("q/lora_A/kernel", "q/lora_B/kernel", "q/lora"),
        ("q/lora_a", "q/lora_b", "q/lora"),
        ("emb/lora_embedding_A/default", "emb/lora_embedding_B/default", "emb/lora/default"),
    ],
)
def test_low_rank_pairs_have_the_spectrum_of_their_product(A, B, joint):
    first, second = normal(40, 8), normal(8, 30)
    turn = np.transpose if "kernel" not in A and "lora_a" not in A else np.asarray
    kinds, found, skipped = measured(
        {A: turn(first), B: turn(second)}, config={"adapter": {"lora_alpha": 16}}
    )
    assert kinds == {joint: "lora"}
    assert skipped == {A: f"a part of {joint}", B: f"a part of {joint}"}
    factor = 1 if A == "q/lora_a" else 16 / 8
    full = np.linalg.svd(factor * first @ second, compute_uv=False) ** 2
    np.testing.assert_allclose(found[joint, ""].eigenvalues, full[:8], rtol=1e-9)
    assert found[joint, ""].shape == (40, 30)


def test_factor_of_low_rank_pairs():
    first, second = normal(40, 4), normal(4, 30)
    pair = {"q/lora_down/kernel": first, "q/lora_up/kernel": second}
    top = np.linalg.svd(first @ second, compute_uv=False)[0] ** 2

    def factor(weights, **adapter):
        kinds, found, _ = measured(weights, config={"adapter": adapter})
        return kinds["q/lora"], found["q/lora", ""].eigenvalues[0] / top

    assert factor(pair) == ("lora, alpha not known", pytest.approx(1))
    assert factor(pair, lora_alpha=8) == ("lora", pytest.approx(4))
    assert factor(pair, lora_alpha=8, use_rslora=True) == ("lora", pytest.approx(16))
    assert factor(pair, lora_alpha=8, alpha_pattern={"q": 2}) == ("lora", pytest.approx(0.25))
    assert factor({**pair, "q/alpha": np.array(12.0)}) == ("lora", pytest.approx(9))


def test_adapter_file_beside_the_weights(tmp_path):
    first, second = normal(60, 16).astype(np.float32), normal(16, 50).astype(np.float32)
    module = "base_model.model.layers.0.q_proj"
    pair = {f"{module}.lora_A.weight": first.T, f"{module}.lora_B.weight": second.T}
    save_file({k: np.ascontiguousarray(v) for k, v in pair.items()}, tmp_path / "a.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 48}))
    layers = fitting.evaluate(tmp_path / "a.safetensors", progress=False).layers
    assert list(layers["kind"]) == ["lora"]
    top = np.linalg.svd(3 * first.astype(float) @ second.astype(float), compute_uv=False)[0]
    assert layers.loc[0, "spectral_norm"] == pytest.approx(top, rel=1e-9)
    assert (layers.loc[0, "num_eigenvalues"], layers.loc[0, "phase"]) == (16, "UNCLASSIFIED")


def torch_layer(make):
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("torch.nn.utils.prune")
    torch.manual_seed(0)
    layer = make(torch)
    for _ in range(3):
        layer(torch.ones(2, 6, 9, 9))
    layer.eval()
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    nested = sr.params_from_torch({f"c.{name}": array for name, array in state.items()})
    flat = {}

    def walk(prefix, node):
        for key, value in node.items():
            walk(f"{prefix}/{key}", value) if isinstance(value, dict) else flat.update(
                {f"{prefix}/{key}".strip("/"): value}
            )

    walk("", nested)
    return flat, layer.weight.detach().numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.nn.utils.parametrizations.weight_norm(t.nn.Conv2d(6, 8, 3)),
        lambda t: t.nn.utils.parametrizations.spectral_norm(t.nn.Conv2d(6, 8, 3)),
        lambda t: t.nn.utils.spectral_norm(t.nn.Conv2d(6, 8, 3)),
        lambda t: t.nn.utils.spectral_norm(t.nn.Linear(9, 5)),
        lambda t: t.nn.utils.prune.l1_unstructured(t.nn.Linear(9, 5), "weight", amount=0.4),
    ],
    ids=["weight_norm", "spectral_norm", "old spectral_norm", "linear", "pruned"],
)
def test_reparametrized_weights_are_what_the_layer_uses(make):
    weights, effective = torch_layer(make)
    kinds, found, skipped = measured(weights)
    assert list(kinds) == ["c/kernel"]
    assert "a part of c/kernel" in skipped.values()
    if effective.ndim == 4:
        assert_close(found["c/kernel", "1,2"], effective[:, :, 1, 2])
    else:
        assert_close(found["c/kernel", ""], effective)


def assert_close(spectrum, matrix):
    expected = np.linalg.svd(matrix.astype(float), compute_uv=False) ** 2
    np.testing.assert_allclose(spectrum.eigenvalues, expected, rtol=1e-4, atol=1e-6)


def test_old_weight_norm():
    v, g = normal(8, 6, 3, 3), normal(8, 1, 1, 1)
    kinds, found, _ = measured({"c/weight_v": v, "c/weight_g": g})
    assert kinds == {"c/kernel": "conv"}
    W = g * v / np.sqrt((v**2).sum(axis=(1, 2, 3), keepdims=True))
    assert_is_spectrum_of(found["c/kernel", "0,1"], W[:, :, 0, 1])


def test_what_is_no_weight_matrix_says_why():
    by_name = "its name is not that of a weight matrix"
    weights = {
        "vit/class_token": (normal(1, 1, 8), by_name),
        "vit/pos_embed": (normal(1, 17, 8), by_name),
        "swin/relative_position_bias_table": (normal(49, 4), by_name),
        "t5/relative_attention_bias/embedding": (normal(32, 8), by_name),
        "mamba/A_log": (normal(16, 8), by_name),
        "layers/norm/kernel": (normal(4, 8), by_name),
        "q/kernel": (np.ones((8, 8), np.int8), "of type int8, as quantized weights are"),
        "c/kernel": (np.ones((8, 8), complex), "of type complex128"),
        "e/kernel": (np.ones((0, 8)), "empty"),
        "x/parametrizations/weight/original": (
            normal(4, 4), "reparametrized in a way that its names do not tell"
        ),
        "bias": (normal(8), "a scalar or a vector"),
        "meta/kernel": (tensor(normal(4, 4), reason="on the meta device"), "on the meta device"),
    }  # fmt: skip
    _, found, skipped = measured({name: weight for name, (weight, _) in weights.items()})
    assert not found
    assert skipped == {name: reason for name, (_, reason) in weights.items()}


def test_axes_given_override_names_and_layouts():
    W = normal(4, 10, 3)
    axes = {"heads/w_o": sr.MatrixAxes(rows=1, cols=(0, 2))}
    params = {"heads": {"w_o": W}, "fc": {"kernel": normal(12, 11)}}
    report = fitting.evaluate(params, axes=axes, progress=False)
    top = np.linalg.svd(W.transpose(1, 0, 2).reshape(10, 12), compute_uv=False)[0]
    layers = report.layers.set_index("name")
    assert layers.loc["heads/w_o", "spectral_norm"] == pytest.approx(top)
    with pytest.raises(ValueError, match="matches none"):
        fitting.evaluate(params, axes={"nothing": sr.MatrixAxes()}, progress=False)


@pytest.mark.parametrize("shape", [(900, 200), (150, 300)])
def test_large_matrices_are_decomposed_in_blocks_alike(monkeypatch, shape):
    W = normal(*shape).astype(np.float32)
    W[5, 7] = np.nan
    good = normal(*shape).astype(np.float32)
    monkeypatch.setattr("fitting._evaluation._unit.BATCH_BYTES", 100)
    for whole in (2**28, 100):
        monkeypatch.setattr("fitting._evaluation._unit.WHOLE_BYTES", whole)
        _, found, _ = measured({"fc/kernel": np.array([good, W])})
        assert_is_spectrum_of(found["fc/kernel", "0"], good.astype(float))
        assert np.isnan(found["fc/kernel", "1"].eigenvalues).all()


def test_signalling_nan_warns_of_nothing():
    W = normal(20, 20).astype(np.float32)
    W.view(np.uint32)[3, 3] = 0x7F800001
    _, found, _ = measured({"fc/kernel": W})
    assert np.isnan(found["fc/kernel", ""].eigenvalues).all()
