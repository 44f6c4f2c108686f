"""Matrices made of several tensors: low-rank pairs and reparametrized weights."""

import json

import numpy as np
import pytest
from layouts import assert_is_spectrum_of, measured, normal
from safetensors.numpy import save_file

import fitting
import spectral_reg as sr


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


def test_a_live_grouped_convolution_is_the_same_with_and_without_a_parametrization():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    convolution = torch.nn.Conv1d(64, 64, 5, groups=4)
    parametrizations = torch.nn.utils.parametrizations
    parametrized = torch.nn.Sequential(parametrizations.weight_norm(convolution, dim=2))
    plain = torch.nn.Sequential(torch.nn.Conv1d(64, 64, 5, groups=4))
    plain.load_state_dict({"0.weight": parametrized[0].weight, "0.bias": parametrized[0].bias})
    # Read without its groups it would be 16 x 64, with 80 eigenvalues.
    for model in (parametrized, plain):
        report = fitting.evaluate(model, conv="pooled", progress=False)
        row = report.layers.iloc[0]
        found = (row["kind"], row["rows"], row["cols"], row["num_eigenvalues"])
        assert found == ("conv", 16, 16, 320)
        assert row["stable_rank"] == pytest.approx(80.0, abs=0.05)
    orthogonal = torch.nn.Sequential(parametrizations.orthogonal(torch.nn.Linear(40, 30)))
    row = fitting.evaluate(orthogonal, progress=False).layers.iloc[0]
    assert (row["lambda_max"], row["stable_rank"]) == pytest.approx((1, 30), rel=1e-5)
