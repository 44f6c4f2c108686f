"""Weights that hold several matrices side by side: query, key and value, and the gates of RNNs."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ._unit import Split

# Modules or parameters that are so named, and how many matrices they hold.
FUSED = {
    "qkv": 3, "qkv_proj": 3, "Wqkv": 3, "wqkv": 3, "c_attn": 3, "to_qkv": 3, "attn_qkv": 3,
    "in_proj_weight": 3, "query_key_value": 3, "kv": 2, "kv_proj": 2, "Wkv": 2, "to_kv": 2,
}  # fmt: skip
PARTS = {3: ("query", "key", "value"), 2: ("key", "value")}
# What may lie beside them and map the heads, as wide as the query, back to the features.
OUTPUTS = ("out_proj", "proj", "c_proj", "o_proj", "wo", "out", "to_out", "to_out/0", "dense")
# Architectures whose query_key_value holds the three of one head after the other.
BY_HEAD = ("bloom", "gpt_neox", "gpt_neox_japanese")

TORCH_GATES = re.compile(r"weight_(ih|hh|hr)(_l\d+)?((?:_reverse)?)")
KINDS = {4: "lstm", 3: "gru"}
NUM_GATES = {kind: number for number, kind in KINDS.items()}
# PyTorch and Flax, Keras, and ONNX order them each in its way.
TORCH_ORDER = {4: ("input", "forget", "cell", "output"), 3: ("reset", "update", "new")}
KERAS_ORDER = {4: ("input", "forget", "cell", "output"), 3: ("update", "reset", "new")}
ONNX_ORDER = {4: ("input", "output", "forget", "cell"), 3: ("update", "reset", "new")}

Shapes = Mapping[str, tuple[int, ...]]


def split_attention(
    name: str, shape: tuple[int, int], shapes: Shapes, config: Mapping[str, Any]
) -> tuple[str, Split | None]:
    """Kind and parts of a fused projection of two axes; an empty kind if it is none.

    It is cut into equal parts where it is three times as wide as its input, or as the input of the
    output projection beside it. Otherwise (grouped queries: narrower keys and values) its parts are
    not known, and it stays whole. So does query_key_value, unless the configuration of the model
    says how many heads take turns in it: its spectrum as a whole does not depend on their order.

    Args:
        name: The path.
        shape: Rows and columns of its matrix, whichever of them the input is.
        shapes: Of all tensors.
        config: The model's ``config.json``.
    """
    *parents, module, last = ["", *name.split("/")]
    fused = last if last in FUSED else module
    if fused not in FUSED:
        return "", None
    number = FUSED[fused]
    if number == 2:
        # As wide as each other, whatever their heads.
        return ("kv", Split(PARTS[2])) if shape[1] % 2 == 0 else ("fused kv", None)
    features, width = min(shape), max(shape)
    beside = parents if fused == module else [*parents, module]
    inner = _input_of_output(list(filter(None, beside)), features, shapes)
    if width != 3 * (inner or features):
        return "fused qkv", None
    axis = -1 if shape[1] == width else -2
    if fused != "query_key_value":
        return "qkv", Split(PARTS[3], axis)
    num_heads = config.get("num_attention_heads") or config.get("n_head")
    if config.get("model_type") in BY_HEAD and num_heads and features % num_heads == 0:
        return "qkv", Split(PARTS[3], axis, num_heads)
    return "fused qkv", None


def _input_of_output(beside: list[str], features: int, shapes: Shapes) -> int:
    """The width of the heads together, from the output projection; 0 where there is none."""
    for output in OUTPUTS:
        for leaf in ("kernel", "weight", "w"):
            shape = shapes.get("/".join([*beside, output, leaf]), ())
            if len(shape) == 2 and features in shape:
                return math.prod(shape) // features
    return 0


def split_gates(
    name: str, shape: tuple[int, int], shapes: Shapes, known: str = ""
) -> tuple[str, Split | None]:
    """Kind and gates of a recurrent layer's weight; an empty kind if it is none.

    The number of gates is how many times wider than its state the recurrent weight is.

    Args:
        name: The path.
        shape: Rows and columns of its matrix; the gates lie along the columns.
        shapes: Of all tensors.
        known: What the source says the layer is.
    """
    *parents, last = name.split("/")
    if match := TORCH_GATES.fullmatch(last):
        which, layer, reverse = match[1], match[2] or "", match[3]
        recurrent = shapes.get("/".join([*parents, f"weight_hh{layer}{reverse}"]), ())
        projection = shapes.get("/".join([*parents, f"weight_hr{layer}{reverse}"]), ())
        if which == "hr" or len(recurrent) != 2:
            return known or ("lstm" if which == "hr" else "rnn"), None
        state = projection[1] if projection else recurrent[1]
        return _gates(recurrent[0] / state, shape, TORCH_ORDER)
    if last not in ("kernel", "recurrent_kernel"):
        return "", None
    if parents and parents[-1] in ("dense_i", "dense_h"):  # the cells of Flax nnx
        recurrent = shapes.get("/".join([*parents[:-1], "dense_h", last]), ())
        order = TORCH_ORDER
    else:
        recurrent = shapes.get("/".join([*parents, "recurrent_kernel"]), ())
        order = KERAS_ORDER
    if len(recurrent) >= 2 and len(recurrent) != 3:
        return _gates(recurrent[-1] / recurrent[-2], shape, order)
    if known in NUM_GATES and len(shapes[name]) == 3:  # [directions, in, gates]
        return _gates(NUM_GATES[known], shape, ONNX_ORDER)
    return "", None


def _gates(
    ratio: float, shape: tuple[int, int], order: Mapping[int, tuple[str, ...]]
) -> tuple[str, Split | None]:
    if ratio in order and shape[1] % int(ratio) == 0:
        return KINDS[int(ratio)], Split(order[int(ratio)])
    return "rnn", None
