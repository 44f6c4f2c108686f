"""Live Equinox layers, whose types say what their weights are. Equinox is never imported here."""

from collections.abc import Mapping
from typing import Any

import jax

from ._axes import MatrixAxes, Shape
from ._default_axes import Known
from ._trees import path_name

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


def equinox_weights(params: Any, shapes: Mapping[str, Shape]) -> dict[str, Known]:
    """What the types of a tree's Equinox layers say of their weights, by path."""
    weight = jax.tree_util.GetAttrKey("weight")
    nodes = jax.tree.leaves_with_path(params, is_leaf=lambda node: bool(equinox_kind(node)))
    found = {}
    for path, node in nodes:
        kind, name = equinox_kind(node), path_name((*path, weight))
        if kind and name in shapes:
            axes = equinox_axes(kind, node, shapes[name]) if len(shapes[name]) >= 2 else None
            found[name] = Known(kind, axes=axes)
    return found


def equinox_axes(kind: str, layer: Any, shape: Shape) -> MatrixAxes | None:
    """The axes of an Equinox layer's weight, from the last on; None where its kind tells none."""
    if kind in ("dense", "embedding"):
        return MatrixAxes()
    if not kind.startswith("conv"):
        return None
    window = tuple(range(-layer.num_spatial_dims, 0))
    rows, cols = window[0] - 1, window[0] - 2
    # Of a depthwise kernel the groups would be columns; all of it is one matrix.
    return MatrixAxes(rows, cols, window, layer.groups if shape[rows] > 1 else 1)


def _is_of_equinox(base: type) -> bool:
    return base.__module__.startswith("equinox.nn.")
