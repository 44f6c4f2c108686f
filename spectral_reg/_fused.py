"""Weights that hold several matrices side by side: query, key and value, and gates of RNNs."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

# Layers or leaves that are so named, and how many matrices they hold.
FUSED = {
    "qkv": 3, "qkv_proj": 3, "Wqkv": 3, "wqkv": 3, "c_attn": 3, "to_qkv": 3, "attn_qkv": 3,
    "in_proj_weight": 3, "query_key_value": 3, "kv": 2, "kv_proj": 2, "Wkv": 2, "to_kv": 2,
    "W_pack": 3,
}  # fmt: skip
PARTS = {3: ("query", "key", "value"), 2: ("key", "value")}
# What may lie beside them and map the heads, as wide as the query, back to the features.
OUTPUTS = ("out_proj", "proj", "c_proj", "o_proj", "wo", "out", "to_out", "to_out/0", "dense")
# What known architectures lay out differently: in thirds, one head after the other, in blocks of
# query, value and key, or as one latent for key and value. Only a configuration cuts these.
DISPUTED = ("query_key_value", "qkv_proj", "wqkv", "c_attn", "kv_proj")
# The gate of a feed-forward layer and what it multiplies.
GATED = ("gate_up_proj", "gate_and_up_proj")
GATE_AND_UP = ("gate", "up")

TORCH_GATES = re.compile(r"weight_(ih|hh|hr)(_l\d+)?((?:_reverse)?)")
KINDS = {4: "lstm", 3: "gru"}
NUM_GATES = {kind: number for number, kind in KINDS.items()}
# PyTorch and Flax, Keras, ONNX and Haiku order them each in its way.
TORCH_ORDER = {4: ("input", "forget", "cell", "output"), 3: ("reset", "update", "new")}
KERAS_ORDER = {4: ("input", "forget", "cell", "output"), 3: ("update", "reset", "new")}
ONNX_ORDER = {4: ("input", "output", "forget", "cell"), 3: ("update", "reset", "new")}

Shapes = Mapping[str, tuple[int, ...]]


class Fused(NamedTuple):
    """What a weight of several matrices is.

    Attributes:
        kind: Such as qkv, gate_up or lstm; empty if it is not one of those, and "fused qkv" if its
            name is theirs but nothing says where to cut.
        parts: What lies side by side along its columns, in order; empty where it is not cut.
        turned: Whether they lie along its rows instead.
    """

    kind: str
    parts: tuple[str, ...] = ()
    turned: bool = False


def fused_projection(name: str, matrix: tuple[int, int], shapes: Shapes) -> Fused:
    """A projection to query, key and value, or to two of them, or gate and up, in one matrix.

    It is cut into equal parts where all known architectures that use its name do so, and it is
    three times as wide as its input, or as the input of the output projection beside it. Otherwise
    (grouped queries: narrower keys and values; heads that take turns) its parts are not known, and
    it stays whole. The spectrum of the whole does not depend on their order.

    Args:
        name: The path.
        matrix: Rows and columns, whichever of them the input is.
        shapes: Of all leaves.
    """
    *parents, layer, last = ["", *name.split("/")]
    fused = last if last in (*FUSED, *GATED) else layer
    if fused in GATED:
        turned = last == "weight"  # PyTorch's and Equinox's, [out, in]
        return Fused("gate_up", GATE_AND_UP, turned) if matrix[not turned] % 2 == 0 else Fused("")
    if fused not in FUSED:
        return Fused("")
    number = FUSED[fused]
    if number == 2:
        # As wide as each other, whatever their heads.
        halves = matrix[1] % 2 == 0 and fused not in DISPUTED
        return Fused("kv", PARTS[2]) if halves else Fused("fused kv")
    features, width = min(matrix), max(matrix)
    beside = parents if fused == layer else [*parents, layer]
    inner = _input_of_output([*filter(None, beside)], features, shapes)
    turned = matrix[1] != width
    # Only the layers of GPT-2's kind lie the other way round, and those agree.
    agreed = fused not in DISPUTED or (fused == "c_attn" and turned == (last != "weight"))
    if width != 3 * (inner or features) or not agreed:
        return Fused("fused qkv")
    return Fused("qkv", PARTS[3], turned)


def _input_of_output(beside: list[str], features: int, shapes: Shapes) -> int:
    """The width of the heads together, from the output projection; 0 where there is none."""
    for output in OUTPUTS:
        for leaf in ("kernel", "weight", "w"):
            shape = shapes.get("/".join([*beside, output, leaf]), ())[-2:]
            if len(shape) == 2 and features in shape:
                return math.prod(shape) // features
    return 0


def fused_gates(name: str, num_cols: int, shapes: Shapes, known: str = "") -> Fused:
    """The gates of a recurrent layer's weight, along its columns.

    Their number is how many times wider than its state the recurrent weight is.

    Args:
        name: The path.
        num_cols: Of its matrix.
        shapes: Of all leaves.
        known: What the source says the layer is.
    """
    *parents, last = name.split("/")
    if match := TORCH_GATES.fullmatch(last):
        which, layer, reverse = match[1], match[2] or "", match[3]
        recurrent = shapes.get("/".join([*parents, f"weight_hh{layer}{reverse}"]), ())[-2:]
        projection = shapes.get("/".join([*parents, f"weight_hr{layer}{reverse}"]), ())
        if which == "hr" or len(recurrent) != 2:
            return Fused(known or ("lstm" if which == "hr" else "rnn"))
        state = projection[-1] if projection else recurrent[1]
        return _gates(recurrent[0] / state, num_cols, TORCH_ORDER)
    if last not in ("kernel", "recurrent_kernel"):
        return Fused("")
    if parents and parents[-1] in ("dense_i", "dense_h"):  # the cells of Flax nnx
        recurrent = shapes.get("/".join([*parents[:-1], "dense_h", last]), ())
        order = TORCH_ORDER
    else:
        recurrent = shapes.get("/".join([*parents, "recurrent_kernel"]), ())
        order = KERAS_ORDER
    if len(recurrent) >= 2 and len(recurrent) != 3:
        return _gates(recurrent[-1] / recurrent[-2], num_cols, order)
    if known in NUM_GATES and len(shapes[name]) == 3:  # [directions, in, gates]
        return _gates(NUM_GATES[known], num_cols, ONNX_ORDER)
    return Fused("")


def _gates(ratio: float, num_cols: int, order: Mapping[int, tuple[str, ...]]) -> Fused:
    if ratio in order and num_cols % int(ratio) == 0:
        return Fused(KINDS[int(ratio)], order[int(ratio)])
    return Fused("rnn")
