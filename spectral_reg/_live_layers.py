"""Live layers, whose types say what their weights are. None of their libraries is imported here."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from ._axes import MatrixAxes, Shape
from ._default_axes import Known
from ._fused import FUSED
from ._trees import path_name

# Equinox calls the weight of each ``weight``, whatever it is, but those of the cells.
EQUINOX = {
    "Linear": "dense", "Conv": "conv", "ConvTranspose": "conv_transpose", "Embedding": "embedding",
    "LSTMCell": "lstm", "GRUCell": "gru", "LayerNorm": "norm", "RMSNorm": "norm",
    "GroupNorm": "norm", "BatchNorm": "norm", "WeightNorm": "wrapper", "SpectralNorm": "wrapper",
}  # fmt: skip
HALIAX = {"Linear": "dense", "MoELinear": "experts", "Embedding": "embedding"}
NNX = {
    "Linear": "dense", "LinearGeneral": "dense", "Einsum": "einsum", "Conv": "conv",
    "ConvTranspose": "conv_transpose", "Embed": "embedding",
}  # fmt: skip
LIBRARIES = {"equinox.nn.": EQUINOX, "haliax.nn.": HALIAX, "flax.nnx.nn.": NNX}


def layer_kind(node: Any) -> tuple[str, str]:
    """The library of a layer, or of a class that it inherits from, and its kind; empty if none."""
    for base in type(node).__mro__:
        for library, kinds in LIBRARIES.items():
            if base.__module__.startswith(library) and base.__name__ in kinds:
                return library, kinds[base.__name__]
    return "", ""


def known_layers(params: Any, shapes: Mapping[str, Shape]) -> dict[str, Known]:
    """What the types of a tree's layers say of their weights, by path.

    Args:
        params: The tree.
        shapes: Of all its leaves.
    """
    return {name: known for name, known in _layers(params, (), shapes) if name in shapes}


def _layers(
    tree: Any, path: tuple[Any, ...], shapes: Mapping[str, Shape]
) -> Iterator[tuple[str, Known]]:
    def is_layer(node: Any) -> bool:
        return node is not tree and bool(layer_kind(node)[1])

    nodes = jax.tree.leaves_with_path(tree, is_leaf=is_layer)
    for inner, node in [((), tree), *nodes] if not path else nodes:
        library, kind = layer_kind(node)
        place = path + inner
        if kind == "wrapper":
            key = jax.tree_util.GetAttrKey("layer")
            own = path_name((*place, key, jax.tree_util.GetAttrKey(node.weight_name)))
            inside = dict(_layers({"layer": node.layer}, place, shapes))
            yield from inside.items()
            yield own, inside.get(own, Known())._replace(wrapped=True)
        elif kind:
            for weight in _weights(library, kind):
                name = path_name((*place, *map(jax.tree_util.GetAttrKey, weight.split("/"))))
                if name in shapes:
                    yield name, _known(library, kind, node, shapes[name])


def _weights(library: str, kind: str) -> tuple[str, ...]:
    if library == "flax.nnx.nn.":
        return ("embedding" if kind == "embedding" else "kernel",)
    if library == "haliax.nn.":
        # The array inside of a named array has no key, or one in other versions.
        return "weight/0", "weight/array"
    return ("weight_ih", "weight_hh") if kind in ("lstm", "gru") else ("weight",)


def _known(library: str, kind: str, layer: Any, shape: Shape) -> Known:
    if len(shape) < 2:
        return Known(kind)
    if library == "haliax.nn.":
        return Known(kind, axes=_haliax_axes(kind, layer))
    if library == "flax.nnx.nn.":
        return _nnx(kind, layer, shape)
    return Known(kind, axes=_equinox_axes(kind, layer, shape))


def _equinox_axes(kind: str, layer: Any, shape: Shape) -> MatrixAxes | None:
    """The axes of a weight of Equinox, from the last on; None where its kind tells none."""
    if kind in ("dense", "embedding"):
        return MatrixAxes()
    if not kind.startswith("conv"):
        return None
    window = tuple(range(-layer.num_spatial_dims, 0))
    rows, cols = window[0] - 1, window[0] - 2
    # Of a depthwise kernel the groups would be columns; all of it is one matrix.
    return MatrixAxes(rows, cols, window, layer.groups if shape[rows] > 1 else 1)


def _haliax_axes(kind: str, layer: Any) -> MatrixAxes | None:
    """The axes by their names; those that the layer does not name are a batch."""
    into, out_of = ("Vocab", "Embed") if kind == "embedding" else ("In", "Out")
    order = [axis.name for axis in layer.weight.axes]
    rows, cols = (
        tuple(
            order.index(axis.name)
            for axis in _as_tuple(getattr(layer, side))
            if axis.name not in FUSED  # an axis of query, key and value is a batch
        )
        for side in (into, out_of)
    )
    # A map from or to a single number has no axis for it.
    return MatrixAxes(rows, cols) if rows and cols else None


def _as_tuple(axes: Any) -> tuple[Any, ...]:
    return axes if isinstance(axes, tuple) else (axes,)


def _nnx(kind: str, layer: Any, shape: Shape) -> Known:
    if kind == "einsum":
        return Known("dense")
    if kind == "embedding":
        return Known(kind, axes=MatrixAxes())
    if kind == "dense":
        num_rows, num_cols = (
            len(features) if isinstance(features, tuple) else 1
            for features in (layer.in_features, layer.out_features)
        )
        rows = tuple(range(-num_rows - num_cols, -num_cols))
        return Known(kind, axes=MatrixAxes(rows, tuple(range(-num_cols, 0))))
    size = layer.kernel_size
    window = tuple(range(-2 - (len(size) if not isinstance(size, int) else 1), -2))
    groups = getattr(layer, "feature_group_count", 1)
    # Of a depthwise kernel the groups would be columns; all of it is one matrix.
    axes = MatrixAxes(window=window, groups=groups if shape[-2] > 1 else 1)
    return Known(kind, groups, axes)
