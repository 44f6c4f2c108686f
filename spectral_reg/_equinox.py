"""Live Equinox layers, whose types say what their weights are. Equinox is never imported here."""

from typing import Any

import jax

# Equinox calls the weight of each ``weight``, whatever it is, but those of the cells.
KINDS = {
    "Linear": "dense",
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    "Embedding": "embedding",
    "LSTMCell": "lstm",
    "GRUCell": "gru",
    "LayerNorm": "norm",
    "RMSNorm": "norm",
    "GroupNorm": "norm",
    "BatchNorm": "norm",
}


def equinox_kind(node: Any) -> str:
    """What a layer of Equinox, or of a class that inherits from one, is; empty for all else."""
    names = (base.__name__ for base in type(node).__mro__ if _is_of_equinox(base))
    return next((KINDS[name] for name in names if name in KINDS), "")


def equinox_weights(params: Any) -> dict[str, tuple[str, Any]]:
    """The paths of the weights of a tree's Equinox layers, to the kind and the layer."""
    weight = jax.tree_util.GetAttrKey("weight")
    nodes = jax.tree.leaves_with_path(params, is_leaf=lambda node: bool(equinox_kind(node)))
    return {
        jax.tree_util.keystr((*path, weight), simple=True, separator="/"): (kind, node)
        for path, node in nodes
        if (kind := equinox_kind(node))
    }


def _is_of_equinox(base: type) -> bool:
    return base.__module__.startswith("equinox.nn.")
