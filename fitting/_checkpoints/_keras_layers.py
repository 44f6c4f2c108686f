"""What Keras's layers call their variables, and how these lie."""

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any, NamedTuple

from ._tensor import Tensor, reshaped, transposed


class Layer(NamedTuple):
    """A layer's class in snake case, as in the files, and its configuration."""

    name: str
    config: Mapping[str, Any]


Layers = Mapping[tuple[str, ...], Layer]

DENSE, SEPARABLE = ("kernel", "bias"), ("depthwise_kernel", "pointwise_kernel", "bias")
RECURRENT = ("kernel", "recurrent_kernel", "bias")
CONVOLUTIONS = [f"{kind}conv{n}d" for kind in ("", "depthwise_", "separable_") for n in (1, 2, 3)]
# Class to the order of its variables.
VARIABLES: dict[str, tuple[str, ...]] = {
    "dense": DENSE,
    "einsum_dense": DENSE,
    "multi_head_attention": DENSE,
    "grouped_query_attention": DENSE,
    **{name: SEPARABLE if "separable" in name else DENSE for name in CONVOLUTIONS},
    **{f"conv{n}d_transpose": DENSE for n in (1, 2, 3)},
    "embedding": ("embeddings",),
    **{name + cell: RECURRENT for name in ("lstm", "gru", "simple_rnn") for cell in ("", "_cell")},
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
}
NUM_AXES = {"dense": 2, "embedding": 2} | {
    name: 2 + int(re.sub(r"\D", "", name)) for name in VARIABLES if "conv" in name
}
ATTENTION = ("multi_head_attention", "grouped_query_attention")
PROJECTIONS = {
    "query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "out",
    "attention_output": "out",
}  # fmt: skip
NUMBERED = re.compile(r"^(?:forward_|backward_)?(.*?)(?:_\d+)?$")


def index_layers(config: Mapping[str, Any]) -> Layers:
    """The layers of a model's configuration, by the names that lead to them."""
    found: dict[tuple[str, ...], Layer] = {}
    _index(config, (), found)
    return found


def _index(
    model: Mapping[str, Any], names: tuple[str, ...], found: dict[tuple[str, ...], Layer]
) -> None:
    config = model.get("config")
    # The first Keras 2 versions kept a Sequential model's layers as a bare list.
    layers = config.get("layers") if isinstance(config, Mapping) else config
    for layer in layers if isinstance(layers, list) else ():
        _add(layer, names, "", found)


def _add(
    layer: Any, names: tuple[str, ...], prefix: str, found: dict[tuple[str, ...], Layer]
) -> None:
    """Adds a layer and those within. What has no class and name is an argument of a user's own."""
    config = layer.get("config") if isinstance(layer, Mapping) else None
    if not (isinstance(config, Mapping) and "class_name" in layer and "name" in config):
        return
    names = (*names, f"{prefix}{config['name']}")
    found[names] = Layer(_snake_case(str(layer["class_name"])), config)
    for prefix in ("", "forward_", "backward_"):  # of what Bidirectional and others wrap
        _add(config.get("layer"), names, prefix, found)
    _index(layer, names, found)


def _snake_case(name: str) -> str:
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def configured_layer(names: Sequence[str], layers: Layers) -> Layer | None:
    """The innermost layer on the way to a variable, where it is of a known class."""
    prefixes = (tuple(names[:length]) for length in range(len(names), 0, -1))
    layer = next((layers[prefix] for prefix in prefixes if prefix in layers), None)
    return layer if layer and layer.name in VARIABLES else None


def guessed_layer(names: Sequence[str]) -> Layer | None:
    """The innermost layer that is named as Keras names a layer of its class, such as dense_2."""
    classes = (re.sub(NUMBERED, r"\1", name) for name in reversed(names))
    return next((Layer(name, {}) for name in classes if name in VARIABLES), None)


def variable_name(layer: Layer | None, index: int, variables: Sized) -> str:
    """The name of a layer's variable of that number; its number where that is not known."""
    names = VARIABLES[layer.name] if layer else ()
    without_bias = names[:-1] if names[-1:] == ("bias",) else names
    known = len(variables) in (len(names), len(without_bias))
    return names[index] if known and index < len(names) else f"vars/{index}"


def flax_names(layer: Layer | None, names: Sequence[str]) -> list[str]:
    """The layers on the way to a variable, with the projections of an attention as in Flax."""
    if layer and layer.name in ATTENTION and names[-1] in PROJECTIONS:
        return [*names[:-1], PROJECTIONS[names[-1]]]
    return list(names)


def flax_variable(layer: Layer | None, variable: str, tensor: Tensor) -> tuple[str, Tensor]:
    """A variable's name and layout in Flax, and what is known of its layer."""
    name = layer.name if layer else ""
    if not layer or tensor.ndim != NUM_AXES.get(name, tensor.ndim) or tensor.ndim < 2:
        return variable, tensor
    if variable == "embeddings":
        return "embedding", replace(tensor, kind="embedding")
    if name.startswith(("lstm", "gru")):
        return variable, replace(tensor, kind=name[:4].rstrip("_"))
    if variable == "depthwise_kernel" or (variable == "kernel" and "depthwise" in name):
        # [*window, in, multiplier]: in Flax one group for each input.
        *window, num_in, multiplier = tensor.shape
        tensor = reshaped(tensor, (*window, 1, num_in * multiplier))
        leaf = "depthwise/kernel" if "separable" in name else "kernel"
        return leaf, replace(tensor, kind="conv", groups=num_in)
    if variable == "pointwise_kernel":
        return "pointwise/kernel", replace(tensor, kind="conv")
    if variable == "kernel" and name.endswith("_transpose"):
        axes = tuple(range(tensor.ndim))
        tensor = transposed(tensor, (*axes[:-2], axes[-1], axes[-2]))
        return variable, replace(tensor, kind="conv_transpose")
    if variable == "kernel" and name.startswith("conv"):
        return variable, replace(tensor, kind="conv", groups=layer.config.get("groups", 1))
    is_dense = variable == "kernel" and VARIABLES[name] == DENSE
    return variable, replace(tensor, kind="dense") if is_dense else tensor
