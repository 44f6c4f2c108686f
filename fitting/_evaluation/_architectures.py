"""How known architectures lay out the weights that hold several matrices, as their code has it.

Read off transformers 5.24 and, where a model brings its own code (Baichuan, ChatGLM, InternLM2,
Qwen), off that.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Turns(NamedTuple):
    """Pieces that lie side by side, in this order, again and again.

    Attributes:
        pieces: Name and width of each.
        number: How many times they take turns.
    """

    pieces: tuple[tuple[str, int], ...]
    number: int = 1

    @property
    def width(self) -> int:
        """Of all pieces of all turns."""
        return self.number * sum(width for _, width in self.pieces)


class Heads(NamedTuple):
    """The heads of an attention: how many query and key heads there are, and their width."""

    query: int
    key: int
    width: int


def model_configs(config: Config) -> Iterator[Config]:
    """A model's configuration and those of the models within, such as its text model's."""
    if config.get("model_type"):
        yield config
    for value in config.values():
        if isinstance(value, Mapping):
            yield from model_configs(value)


def _first(config: Config, *names: str) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


def _heads(config: Config) -> Heads:
    query = _first(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    names = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
    key = _first(config, *names) or _first(config.get("attn_config") or {}, "kv_n_heads") or query
    features = _first(config, "hidden_size", "n_embd", "d_model", INPUT_WIDTH)
    width = _first(config, "head_dim", "kv_channels") or (features // query if query else 0)
    return Heads(query, key, width)


def _one_by_one(config: Config, *, num_keys: int = 0) -> Turns:
    query, key, width = _heads(config)
    key = num_keys or key
    return Turns((("query", query * width), ("key", key * width), ("value", key * width)))


def _by_head(config: Config) -> Turns:
    query, _, width = _heads(config)
    return Turns((("query", width), ("key", width), ("value", width)), query)


def _by_key_head(config: Config) -> Turns:
    query, key, width = _heads(config)
    return Turns((("query", query // max(key, 1) * width), ("key", width), ("value", width)), key)


def _codegen(config: Config) -> Turns:
    # The four blocks of the TPU cores that it was trained on; the value comes before the key.
    query, _, width = _heads(config)
    block = query * width // 4
    return Turns((("query", block), ("value", block), ("key", block)), 4)


def _gpt_bigcode(config: Config) -> Turns:
    return _one_by_one(config, num_keys=1) if config.get("multi_query", True) else _by_head(config)


def _falcon(config: Config) -> Turns:
    if config.get("new_decoder_architecture"):
        return _by_key_head(config)
    return _gpt_bigcode(config)


def _chatglm(config: Config) -> Turns:
    return _one_by_one(config) if config.get("multi_query_attention") else _by_head(config)


def _key_and_value(config: Config) -> Turns:
    _, key, width = _heads(config)
    return Turns((("key", key * width), ("value", key * width)))


def _linear_attention(config: Config) -> Turns:
    keys = _first(config, "linear_num_key_heads")
    values = _first(config, "linear_num_value_heads") // max(keys, 1)
    key = _first(config, "linear_key_head_dim")
    value = values * _first(config, "linear_value_head_dim")
    return Turns((("query", key), ("key", key), ("value", value), ("gate", value)), keys)


# Where a configuration does not give the width of the features, the weight's own input does.
INPUT_WIDTH = "width of the input"

Layout = Callable[[Config], Turns]

# The module or parameter, then the model types whose configuration says how it is cut.
FUSED: dict[str, dict[str, Layout]] = {
    "c_attn": {
        **dict.fromkeys(("gpt2", "imagegpt", "openai-gpt", "decision_transformer"), _one_by_one),
        "qwen": _one_by_one,
        "gpt_bigcode": _gpt_bigcode,
    },
    "qkv_proj": {
        **dict.fromkeys(("phi3", "phi3_v", "phi4_multimodal"), _one_by_one),
        "codegen": _codegen,
        "minimax": _by_head,
    },
    "query_key_value": {
        **dict.fromkeys(("bloom", "gpt_neox", "gpt_neox_japanese", "persimmon"), _by_head),
        "falcon": _falcon,
        "chatglm": _chatglm,
    },
    "Wqkv": dict.fromkeys(("mpt", "dbrx", "modernbert", "nomic_bert"), _one_by_one),
    "wqkv": {"internlm2": _by_key_head},
    "W_pack": {"baichuan": _one_by_one},
    "kv_proj": {"jetmoe": _key_and_value},
    "in_proj_qkvz": {"qwen3_next": _linear_attention},
}
# Model types whose stacked experts hold gate and up in turns, column by column, and have a bias.
INTERLEAVED = ("gpt_oss", "openai_privacy_filter")
# Model types in which input_linear holds the two, one after the other.
INPUT_LINEAR = ("granitemoe", "granitemoeshared", "granitemoehybrid")
# Grouped convolutions, and where the configuration says how many groups they have.
GROUPS = {"pos_conv_embed": "num_conv_pos_embedding_groups"}


def fused_turns(module: str, width: int, num_inputs: int, config: Config) -> Turns | None:
    """How the model cuts a weight of that name and width; None where its configuration does not."""
    layouts = FUSED.get(module, {})
    for part in model_configs(config):
        if layout := layouts.get(part["model_type"]):
            turns = layout({**part, INPUT_WIDTH: num_inputs})
            if turns.width == width and all(piece for _, piece in turns.pieces):
                return turns
    return None


def num_groups(name: str, config: Config) -> int:
    """The groups of a convolution, as far as the model's configuration says."""
    fields = [field for part, field in GROUPS.items() if f"/{part}/" in f"/{name}"]
    return max((_first(part, *fields) for part in model_configs(config)), default=0) or 1


def is_model(config: Config, *model_types: str) -> bool:
    """Whether a model, or one within, is of one of the types."""
    return any(part["model_type"] in model_types for part in model_configs(config))
