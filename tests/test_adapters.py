"""Adapters as PEFT stores them and as it has them in memory."""

import json

import numpy as np
import pytest
from layouts import measured, normal

import fitting


def pair(module, num_in=40, num_out=30, rank=4, label=""):
    A, B = normal(num_in, rank), normal(rank, num_out)
    name = f"base_model/model/model/{module}/lora_{{}}{label}/kernel"
    return {name.format("A"): A, name.format("B"): B}, A @ B


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [
        ({"layers.0.self_attn.q_proj": 64, "q_proj": 2}, 64),  # the first that fits
        ({"q_proj": 2, "layers.0.self_attn.q_proj": 64}, 2),
        ({"^model.layers.0.self_attn.q_proj": 32, "q_proj": 2}, 32),
        ({"proj": 5}, 8),  # a whole name, or its end after a dot
        ({r"layers\.\d+\.self_attn\.(q|k)_proj": 12}, 12),
        ({}, 8),
    ],
)
def test_the_first_pattern_that_fits_gives_the_scale(patterns, alpha):
    weights, product = pair("layers/0/self_attn/q_proj")
    adapter = {"lora_alpha": 8, "alpha_pattern": patterns}
    _, found, _ = measured(weights, config={"adapter": adapter})
    (spectrum,) = found.values()
    top = np.linalg.svd(product * alpha / 4, compute_uv=False)[0]
    assert spectrum.eigenvalues[0] ** 0.5 == pytest.approx(top)


def stacked_pair(E=3, rank=2, num_in=20, num_out=12):
    """As PEFT stores it: one expert after the other in A, all of them in turns in B."""
    A, B = normal(E, rank, num_in), normal(num_out, rank, E)
    products = np.einsum("ore,eri->eio", B, A)
    stem = "base_model/model/model/layers/0/mlp/experts"
    weights = {f"{stem}/lora_A/kernel": A.reshape(-1, num_in).T,
               f"{stem}/lora_B/kernel": B.reshape(num_out, -1).T}  # fmt: skip
    return weights, products


def test_an_adapter_of_stacked_experts_holds_a_product_for_each():
    weights, products = stacked_pair()
    adapter = {"lora_alpha": 8, "r": 2, "target_parameters": ["mlp.experts.gate_up_proj"]}
    kinds, found, _ = measured(weights, config={"adapter": adapter})
    assert set(kinds.values()) == {"lora"}
    assert [index for _, index in found] == ["0", "1", "2"]
    for (_, index), spectrum in found.items():
        expected = np.linalg.svd(4 * products[int(index)], compute_uv=False) ** 2
        np.testing.assert_allclose(spectrum.eigenvalues, expected[:2])
        assert spectrum.shape == (20, 12)


def test_without_the_configuration_it_is_not_taken_for_one_product():
    weights, _ = stacked_pair()
    with pytest.raises(ValueError, match="an adapter of stacked experts, and nothing says of how"):
        fitting.evaluate(weights, progress=False)


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        ("oft_R/default/kernel", "OFT"),
        ("hada_w1_a/default", "LoHa"),
        ("lokr_w2", "LoKr"),
        ("boft_R/default", "BOFT"),
        ("ia3_l/default", "IA3"),
    ],
)
def test_what_other_adapters_store_is_no_matrix(leaf, kind):
    weights = {f"q_proj/{leaf}": normal(12, 28), "q_proj/base_layer/kernel": normal(12, 12)}
    kinds, _, skipped = measured(weights)
    assert set(kinds) == {"q_proj/base_layer/kernel"}
    reason = f"of an adapter of kind {kind}, whose numbers are no weight matrix"
    assert skipped == {f"q_proj/{leaf}": reason}


@pytest.mark.parametrize(
    ("leaf", "kind"), [("lora_magnitude_vector/scale", "DoRA"), ("lora_E/default", "AdaLoRA")]
)
def test_the_product_of_an_adapter_that_has_more_is_said_to_be_alone(leaf, kind):
    weights, _ = pair("q_proj")
    beside = f"base_model/model/model/q_proj/{leaf}"
    _, _, skipped = measured(weights | {beside: normal(4, 1)})
    assert skipped[beside] == f"of an adapter of kind {kind}: the product alone is measured"


def test_what_an_adapter_wraps_keeps_its_cut():
    W, E = normal(20, 60), normal(3, 24, 10)
    weights = {
        "attn/qkv/base_layer/kernel": W,
        "mlp/experts/base_layer/base_layer/gate_up_proj": E,
        "mlp/experts/base_layer/base_layer/down_proj": normal(3, 10, 12),
    }
    kinds, found, _ = measured(weights)
    assert kinds["attn/qkv/base_layer/kernel"] == "qkv"
    gate_up = "mlp/experts/base_layer/base_layer/gate_up_proj"
    assert kinds[gate_up] == "experts"
    expected = np.linalg.svd(E[1, 12:], compute_uv=False) ** 2
    np.testing.assert_allclose(found[gate_up, "1,up"].eigenvalues, expected)


# Of transformers' own names, which peft uses.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT:UserWarning"),
]


@pytest.fixture
def llama():
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers, which the tests' requirements install"
    )
    torch = pytest.importorskip("torch")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def lora_rows(report):
    rows = report.layers[report.layers["kind"] == "lora"]
    names = rows["name"].str.removesuffix("/default")
    return dict(zip(names, rows["lambda_max"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_live_adapter_has_the_scale_of_its_file(llama, tmp_path, use_rslora):
    peft = pytest.importorskip("peft", reason="needs peft, which the tests' requirements install")
    torch = pytest.importorskip("torch")
    patterns = {"layers.0.self_attn.q_proj": 64, "^model.layers.1.self_attn.v_proj": 3, "q_proj": 2}
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], alpha_pattern=patterns,
        rank_pattern={"v_proj": 2}, use_rslora=use_rslora, init_lora_weights=False,
    )  # fmt: skip
    model = peft.get_peft_model(llama, config)
    model.save_pretrained(tmp_path)
    live, saved = (fitting.evaluate(m, progress=False) for m in (model, tmp_path))
    assert lora_rows(live) == pytest.approx(lora_rows(saved))
    assert len(lora_rows(saved)) == 4
    layer = model.base_model.model.model.layers[1].self_attn.v_proj
    delta = layer.get_delta_weight("default").detach().double()
    top = float(torch.linalg.matrix_norm(delta, 2)) ** 2
    name = "base_model/model/model/layers/1/self_attn/v_proj/lora"
    assert lora_rows(live)[name] == pytest.approx(top, rel=1e-5)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["alpha_pattern"] == patterns


@pytest.mark.slow
def test_a_live_adapter_of_stacked_experts(tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers, which the tests' requirements install"
    )
    peft = pytest.importorskip("peft", reason="needs peft, which the tests' requirements install")
    torch = pytest.importorskip("torch")
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    torch.manual_seed(0)
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    model = peft.get_peft_model(
        transformers.MixtralForCausalLM(config),
        peft.LoraConfig(r=3, lora_alpha=6, target_modules=[], target_parameters=parameters,
                        init_lora_weights=False),
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    wrapper = model.base_model.model.model.layers[0].mlp.experts
    delta = wrapper.get_delta_weight("default").detach().double()
    expected = torch.linalg.svdvals(delta)[:, 0] ** 2
    for source in (model, tmp_path):
        report = fitting.evaluate(source, progress=False)
        rows = report.layers[report.layers["kind"] == "lora"]
        assert len(rows) == 8
        outer = rows[~rows["name"].str.contains("base_layer")]
        np.testing.assert_allclose(outer["lambda_max"], expected, rtol=1e-4)
