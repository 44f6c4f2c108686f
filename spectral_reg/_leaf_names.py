"""What the name of a leaf says: a weight matrix, the scale of a normalization, or neither."""

import re
from collections.abc import Iterable
from typing import Any

# Flax and PyTorch; w and embeddings are Haiku's.
MATRIX_NAMES = ("kernel", "weight", "embedding", "w", "embeddings", "weights")
# A last word that makes a longer name one of these: recurrent_kernel, x_proj_weight, gating_einsum.
MATRIX_WORDS = (*MATRIX_NAMES[:3], "embeddings", "einsum", "linear", "proj", "projection")
# Recurrent layers and attention of PyTorch; lora_a; wq, w1, wi_0, w_gate and other plain dicts.
MATRIX_FORMS = re.compile(
    r"in_proj_weight|weight_(ih|hh|hr)(_l\d+)?(_reverse)?"
    r"|(\w+_)?lora_[abAB]|[wW]([a-z]{0,3}|\d)|[wW][io]?_\w+"
)
# One letter is enough only inside an attention, as in XLNet.
ATTENTION_LETTERS = ("q", "k", "v", "o", "r")
ATTENTION_WORDS = ("attn", "attention", "attentions")
# Whatever else a name says, it is no weight matrix with one of these.
OTHER_WORDS = (
    "bias", "biases", "scale", "scales", "norm", "mean", "var", "std", "beta", "gamma", "offset",
    "mask", "cache", "log", "pos", "position", "positional", "positions", "class", "cls",
)  # fmt: skip
NORM_WORDS = (
    "norm", "norms", "ln", "rms", "bn", "gn", "layernorm", "batchnorm", "groupnorm", "instancenorm",
    "rmsnorm", "scalenorm", "normalization",
)  # fmt: skip
# After a word of those, they make it something else: adaLN_modulation, layernorm_qkv, norm_proj.
LAYER_WORDS = ("modulation", "linear", "proj", "projection", "dense", "fc", "qkv", "conv")
# Of an axis along which layers are stacked, or of the part of a path that holds them.
STACK_WORDS = (
    "layer", "layers", "block", "blocks", "stack", "stacked", "stage", "stages", "repeats",
)  # fmt: skip
# Of experts that lie in one leaf, whose names say nothing elsewhere.
EXPERT_MATRICES = re.compile(r"(gate_|up_|down_)+proj|[wv]\d|w[io](_\d)?|(up|down|gate)")
EXPERT_WORDS = ("expert", "experts")

NOT_A_NAME = "its name is not that of a weight matrix"
IN_A_NORM = "the scale of a normalization"
VECTOR = "a scalar or a vector"


def words(part: str) -> list[str]:
    """The words of a name in lower case: layer, norm and 0 of both LayerNorm_0 and layer_norm0."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", part)]


def parent_of(parts: Iterable[str]) -> str:
    """The last part that is no number, which is the layer that a leaf belongs to."""
    return next((part for part in reversed([*parts]) if not part.isdigit()), "")


def role_of(name: str) -> list[str]:
    """The parts of a path up to the last that is no number: a list of weights is one of them."""
    parts = name.split("/")
    while parts and parts[-1].isdigit():
        parts.pop()
    return parts or [""]


def has_word(parts: Iterable[str], chosen: Iterable[str]) -> bool:
    """Whether one of some words is among those of the parts of a name."""
    return not {*chosen}.isdisjoint(word for part in parts for word in words(part))


def is_norm(layer: str) -> bool:
    """Whether a layer is called a normalization."""
    found = words(layer)
    places = [place for place, word in enumerate(found) if word in NORM_WORDS]
    return bool(places) and not {*LAYER_WORDS}.intersection(found[places[-1] :])


def reason_to_leave_out(name: str, ndim: int) -> str:
    """Why a leaf is not among the matrices of a model by its name; empty if it is.

    Its last part decides, then the layer around it: nothing further up counts.
    """
    *parents, last = role_of(name)
    parent = parent_of(parents)
    if ndim < 2:
        return VECTOR
    if not last:
        return ""  # no word at all, such as that of a bare array or a list of pairs
    if words(parent)[-1:] == ["bias"]:
        return NOT_A_NAME  # T5's table of biases by distance is stored as an embedding
    if last not in ("kernel", "embedding", "embeddings") and is_norm(parent):
        return IN_A_NORM
    if last in MATRIX_NAMES:
        return ""
    if has_word([last], OTHER_WORDS):
        return NOT_A_NAME
    if has_word(parents, EXPERT_WORDS) and parent == parents[-1]:
        # All experts in one leaf; two axes hold them side by side, nobody knows how many.
        return "" if ndim > 2 and EXPERT_MATRICES.fullmatch(last) else NOT_A_NAME
    if MATRIX_FORMS.fullmatch(last) or (words(last) or [""])[-1] in MATRIX_WORDS:
        return ""
    if last in ATTENTION_LETTERS and has_word([parent], ATTENTION_WORDS):
        return ""
    return NOT_A_NAME


def is_layer_matrix(name: str, leaf: Any) -> bool:
    """Whether a leaf holds a layer's matrices, by its name and number of axes.

    Two or more axes, and no name at all or one that is read as words from its end: ``kernel``,
    ``weight``, ``embedding``, ``w`` or one that ends in such a word or is of their kind (``w_q``,
    ``wi_0``, ``lora_a``, ``gating_einsum``, ``weight_ih``). A ``weight`` whose own layer is called
    a norm (``ln_1``, ``RMSNorm_0``) is its scale, even where a scan has stacked it to two axes; a
    ``kernel`` never is, and what stands further up (``norm1/linear/weight``) does not count.

    Args:
        name: The leaf's path, as :func:`path_name` gives it.
        leaf: The leaf.

    Returns:
        What :func:`layer_matrices` takes without a mask, but for what the type of a live layer
        says. :func:`explain_layers` gives the reason for every leaf of a model.

    Example:
        >>> import numpy as np, spectral_reg as sr
        >>> sr.is_layer_matrix("fc1/kernel", np.ones((3, 2)))
        True
        >>> sr.is_layer_matrix("blocks/ln_1/weight", np.ones((3, 2)))
        False
    """
    return not reason_to_leave_out(name, getattr(leaf, "ndim", 0))
