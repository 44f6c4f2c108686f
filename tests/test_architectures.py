"""Weights that hold several matrices, cut as the models that have them do."""

import numpy as np
import pytest
from layouts import assert_is_spectrum_of, measured, normal

import fitting

QKV = ("query", "key", "value")


def cut(turns, order):
    """The parts of ``[in, out]`` weights whose pieces take turns, each glued together."""
    return {
        part: np.concatenate([turn[place] for turn in turns], axis=1)
        for place, part in enumerate(order)
    }


def assert_parts(found, name, parts):
    assert {index for known, index in found if known == name} == set(parts)
    for part, matrix in parts.items():
        assert_is_spectrum_of(found[name, part], matrix)


@pytest.mark.parametrize(
    ("module", "config", "number", "order", "widths"),
    [
        ("c_attn", {"model_type": "gpt2", "n_head": 4, "n_embd": 20}, 1, QKV, (20, 20, 20)),
        ("c_attn", {"model_type": "gpt_bigcode", "n_head": 4, "n_embd": 20}, 1, QKV, (20, 5, 5)),
        (
            "c_attn",
            {"model_type": "gpt_bigcode", "n_head": 4, "n_embd": 20, "multi_query": False},
            4, QKV, (5, 5, 5),
        ),
        (
            "qkv_proj",
            {"model_type": "codegen", "n_head": 4, "n_embd": 64},
            4, ("query", "value", "key"), (16, 16, 16),
        ),
        (
            "qkv_proj",
            {"model_type": "phi3", "num_attention_heads": 8, "num_key_value_heads": 4,
             "hidden_size": 64},
            1, QKV, (64, 32, 32),
        ),
        (
            "qkv_proj",
            {"model_type": "minimax", "num_attention_heads": 4, "hidden_size": 20, "head_dim": 8},
            4, QKV, (8, 8, 8),
        ),
        (
            "wqkv",
            {"model_type": "internlm2", "num_attention_heads": 8, "num_key_value_heads": 2,
             "hidden_size": 40},
            2, QKV, (20, 5, 5),
        ),
        (
            "query_key_value",
            {"model_type": "falcon", "num_attention_heads": 6, "num_kv_heads": 2,
             "hidden_size": 30, "new_decoder_architecture": True},
            2, QKV, (15, 5, 5),
        ),
        (
            "query_key_value",
            {"model_type": "falcon", "num_attention_heads": 6, "hidden_size": 30},
            1, QKV, (30, 5, 5),
        ),
        (
            "query_key_value",
            {"model_type": "bloom", "n_head": 4, "hidden_size": 20}, 4, QKV, (5, 5, 5),
        ),
        (
            "Wqkv",
            {"model_type": "dbrx", "n_heads": 4, "d_model": 20, "attn_config": {"kv_n_heads": 2}},
            1, QKV, (20, 10, 10),
        ),
        (
            "kv_proj",
            {"model_type": "jetmoe", "num_attention_heads": 8, "num_key_value_heads": 4,
             "kv_channels": 8, "hidden_size": 32},
            1, ("key", "value"), (32, 32),
        ),
        (
            "in_proj_qkvz",
            {"model_type": "qwen3_next", "linear_num_key_heads": 2, "linear_num_value_heads": 4,
             "linear_key_head_dim": 4, "linear_value_head_dim": 3},
            2, ("query", "key", "value", "gate"), (4, 4, 6, 6),
        ),
    ],
)  # fmt: skip
def test_the_configuration_says_how_a_fused_weight_is_cut(module, config, number, order, widths):
    num_inputs = config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 24
    turns = [[normal(num_inputs, width) for width in widths] for _ in range(number)]
    name = f"layers/0/attn/{module}/kernel"
    W = np.concatenate([piece for turn in turns for piece in turn], axis=1)
    for known in (config, {"model_type": "some_vlm", "text_config": config}):
        _, found, _ = measured({name: W}, config=known)
        assert_parts(found, name, cut(turns, order))
    kinds, _, _ = measured({name: W}, config=config | {"model_type": "unheard_of"})
    alone, _, _ = measured({name: W})
    assert kinds == alone  # of the name alone


@pytest.mark.parametrize("module", ["c_attn", "qkv_proj", "wqkv", "query_key_value", "kv_proj"])
def test_what_architectures_lay_out_differently_stays_whole(module):
    name = f"layers/0/attn/{module}/kernel"
    W = normal(20, 60)
    kinds, found, _ = measured({name: W})
    assert kinds == {name: "fused kv" if module == "kv_proj" else "fused qkv"}
    assert_is_spectrum_of(found[name, ""], W)


@pytest.mark.parametrize("source", ["module", "folder"])
def test_a_configuration_is_found(source, tmp_path):
    """In a live module, and beside the weights."""
    torch = pytest.importorskip("torch", reason="needs torch")
    weight = normal(128, 64)  # [out, in]: queries of 8 heads, keys and values of 4
    config = {"model_type": "phi3", "num_attention_heads": 8, "num_key_value_heads": 4,
              "hidden_size": 64}  # fmt: skip
    net = torch.nn.ModuleDict({"qkv_proj": torch.nn.Linear(64, 128, bias=False).double()})
    net.qkv_proj.weight.data[:] = torch.from_numpy(weight)
    if source == "folder":
        torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "config.json").write_text(str(config).replace("'", '"'))
        model = tmp_path
    else:
        net.config = config
        model = net
    layers = fitting.evaluate(model, progress=False).layers.set_index("index")
    assert layers.loc[[*QKV], ["rows", "cols"]].to_numpy().tolist() == [
        [64, 64],
        [64, 32],
        [64, 32],
    ]
    top = np.linalg.svd(weight[64:96], compute_uv=False)[0]
    assert layers.loc["key", "spectral_norm"] == pytest.approx(top)


def gated(E, H, inner):
    return [{part: normal(H, inner) for part in ("gate", "up")} | {"down": normal(inner, H)}
            for _ in range(E)]  # fmt: skip


def stacked(experts, form):
    """A mixture as models store it: the tensors, and the configuration that it needs."""
    joint = [np.concatenate([e["gate"], e["up"]], axis=1) for e in experts]
    down = [e["down"] for e in experts]
    match form:
        case "out, in":
            return {"gate_up_proj": np.stack([W.T for W in joint]),
                    "down_proj": np.stack([W.T for W in down])}  # fmt: skip
        case "in, out":
            return {"gate_up_proj": np.stack(joint), "down_proj": np.stack(down)}
        case "in turns":
            turns = [np.stack([e["gate"], e["up"]], axis=2) for e in experts]
            turns = [W.reshape(W.shape[0], -1) for W in turns]
            return {"gate_up_proj": np.stack(turns), "down_proj": np.stack(down),
                    "gate_up_proj_bias": normal(len(experts), turns[0].shape[1])}  # fmt: skip
        case "w1":
            names = {"gate": "w1", "up": "w3", "down": "w2"}
        case _:
            names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    return {f"{number}/{names[part]}/kernel": W for number, expert in enumerate(experts)
            for part, W in expert.items()}  # fmt: skip


@pytest.mark.parametrize("form", ["out, in", "in, out", "in turns", "w1", "gate_proj"])
@pytest.mark.parametrize("inner", [12, 40, 80])  # below, at and above what could be mistaken
def test_a_mixture_has_one_set_of_rows_however_it_is_stored(form, inner):
    experts = gated(3, 40, inner)
    weights = {f"mlp/experts/{name}": W for name, W in stacked(experts, form).items()}
    kinds, found, _ = measured(weights)
    assert set(kinds.values()) == {"experts"}
    assert len(found) == 9
    for number, expert in enumerate(experts):
        gate_up, down = "mlp/experts/gate_up_proj", "mlp/experts/down_proj"
        for part in ("gate", "up"):
            assert_is_spectrum_of(found[gate_up, f"{number},{part}"], expert[part])
            assert found[gate_up, f"{number},{part}"].shape == (40, inner)
        assert_is_spectrum_of(found[down, str(number)], expert["down"])
        assert found[down, str(number)].shape == (inner, 40)


def test_layers_are_asked_for_by_the_name_of_the_stack_or_their_own():
    experts = gated(2, 10, 6)
    weights = {f"moe/experts/{name}": W for name, W in stacked(experts, "w1").items()}
    _, found, _ = measured(weights, layers=["moe/experts/down_proj", "moe/experts/0/w1/*"])
    assert {index for _, index in found} == {"0", "1", "0,gate"}
    alone = {"moe/experts/0/fc1/kernel": normal(6, 9)}  # nothing known
    kinds, _, _ = measured(alone)
    assert kinds == {"moe/experts/0/fc1/kernel": "dense"}


def test_experts_below_one_another_are_cut_by_their_router():
    """DBRX: [experts * inner, features], w1 and v1 turned."""
    blocks = {leaf: [normal(7, 10) for _ in range(3)] for leaf in ("w1", "v1", "w2")}
    weights = {f"ffn/experts/mlp/{leaf}": np.concatenate(W) for leaf, W in blocks.items()}
    kinds, found, _ = measured(weights | {"ffn/router/layer/kernel": normal(10, 3)})
    for leaf, matrices in blocks.items():
        name = f"ffn/experts/mlp/{leaf}"
        assert kinds[name] == "experts"
        for number, W in enumerate(matrices):
            assert_is_spectrum_of(found[name, str(number)], W)
            assert found[name, str(number)].shape == ((7, 10) if leaf == "w2" else (10, 7))
    _, _, skipped = measured(weights | {"other/kernel": normal(10, 3)})
    assert set(skipped) == set(weights)


def test_a_stack_without_its_other_half_stays_whole():
    kinds, _, _ = measured({"mlp/experts/gate_up_proj": normal(3, 40, 24)})
    assert kinds == {"mlp/experts/gate_up_proj": "fused gate_up"}


def test_input_linear_is_a_gate_where_the_model_has_one():
    name, W = "moe/input_linear/kernel", normal(2, 10, 16)
    _, found, _ = measured({name: W})
    assert_is_spectrum_of(found[name, "1"], W[1])
    _, found, _ = measured({name: W}, config={"model_type": "granitemoe"})
    assert_is_spectrum_of(found[name, "1,up"], W[1, :, 8:])


def test_gate_and_up_of_a_dense_layer():
    W = normal(10, 24)
    kinds, found, _ = measured({"mlp/gate_up_proj/kernel": W})
    assert kinds == {"mlp/gate_up_proj/kernel": "gate_up"}
    assert_is_spectrum_of(found["mlp/gate_up_proj/kernel", "up"], W[:, 12:])


def test_three_axes_alone_make_no_convolution():
    """A convolution has the word in its name, or a window."""
    weights = {
        "block_sparse_moe.input_linear.weight": normal(8, 64, 48),
        "codebooks_head.weight": normal(5, 40, 90),
        "conformer.conv_module.0.weight": normal(8, 4, 31),
        "decoder.in_layers.0.weight": normal(12, 6, 5),
        "project.weight": normal(12, 9, 1),
    }
    layers = fitting.evaluate(weights, progress=False).layers
    stack, head, conv, window, point = (
        layers[layers["name"] == name.replace(".", "/").replace("weight", "kernel")]
        for name in weights
    )
    assert stack[["rows", "cols"]].drop_duplicates().to_numpy().tolist() == [[48, 64]]
    assert (len(stack), len(head), len(conv), len(window), len(point)) == (8, 5, 31, 5, 1)
    assert set(conv["kind"]) | set(window["kind"]) | set(point["kind"]) == {"conv"}
    assert set(head["kind"]) == {"stack"}
    top = np.linalg.svd(weights["codebooks_head.weight"][4], compute_uv=False)[0]
    assert head["spectral_norm"].iloc[-1] == pytest.approx(top)


def test_layers_that_keep_in_out_are_turned_by_their_biases():
    """GPT-2's: its square layers follow those of their name."""

    def block(n):
        return {
            f"h.{n}.attn.c_attn.weight": normal(8, 24), f"h.{n}.attn.c_attn.bias": normal(24),
            f"h.{n}.attn.c_proj.weight": normal(8, 8), f"h.{n}.attn.c_proj.bias": normal(8),
            f"h.{n}.mlp.c_fc.weight": normal(8, 32), f"h.{n}.mlp.c_fc.bias": normal(32),
            f"h.{n}.mlp.c_proj.weight": normal(32, 8), f"h.{n}.mlp.c_proj.bias": normal(8),
            f"h.{n}.fc.weight": normal(32, 8), f"h.{n}.fc.bias": normal(32),
        }  # fmt: skip

    weights = block(0) | block(1)
    layers = fitting.evaluate(weights, progress=False).layers
    shapes = {name: (rows, cols) for name, rows, cols in
              layers[["name", "rows", "cols"]].itertuples(index=False)}  # fmt: skip
    assert shapes["h/1/mlp/c_fc/kernel"] == (8, 32)
    assert shapes["h/1/mlp/c_proj/kernel"] == (32, 8)
    assert shapes["h/1/fc/kernel"] == (8, 32)
    parts = layers[layers["name"] == "h/0/attn/c_attn/kernel"].set_index("index")
    top = np.linalg.svd(weights["h.0.attn.c_attn.weight"][:, 8:16], compute_uv=False)[0]
    assert parts.loc["key", "spectral_norm"] == pytest.approx(top)


@pytest.mark.parametrize(
    ("name", "bias", "leaf"),
    [
        ("embed_tokens", False, "embedding"),
        ("tok_embeddings", False, "embedding"),
        ("wte", False, "embedding"),
        ("embeddings.position_embeddings", False, "embedding"),
        ("decoder.embed_tokens.3", False, "embedding"),
        ("shared", False, "embedding"),
        ("embed_out", False, "kernel"),
        ("embeddings_project", True, "kernel"),
        ("decoder_embed", True, "kernel"),
        ("patch_embedding", True, "kernel"),
        ("patch_embedding", False, "kernel"),
        ("lm_head", False, "kernel"),
    ],
)
def test_what_is_an_embedding(name, bias, leaf):
    weights = {f"{name}.weight": normal(40, 12)} | ({f"{name}.bias": normal(40)} if bias else {})
    (path,) = fitting.evaluate(weights, progress=False).layers["name"]
    assert path == f"{name.replace('.', '/')}/{leaf}"
