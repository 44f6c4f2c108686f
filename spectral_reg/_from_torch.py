"""PyTorch state dicts as Flax parameters."""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ._leaf_names import is_norm

# What wrappers put in front of every name: DataParallel, AveragedModel, Lightning, DeepSpeed.
PREFIXES = ("module.", "model.", "_forward_module.")
# What torch.compile, FSDP and activation checkpointing put in the middle too: no module's own name.
WRAPPERS = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.(?=[^.])"
)
RENAMED = {"running_mean": "mean", "running_var": "var"}
# The names of embeddings in known architectures. Those of a linear layer, such as embed_out and
# embeddings_project, differ in their last word.
EMBEDDING = re.compile(
    r"(\w+_)?(embed|emb|embedding|embeddings)|wte|wpe|shared|(\w+_)?embed_(in|tokens|positions)\w*"
)
# Of pixels or frames: a convolution, or its like as a linear layer.
PATCHES = re.compile(r"(\w+_)?patch\w*")
# A last axis up to this is the window of a convolution, where it is short beside the outputs.
MAX_WINDOW = 16

Shape = tuple[int, ...]


class FlaxPlace(NamedTuple):
    """Where a tensor of PyTorch lies in Flax.

    Attributes:
        path: Its path.
        axes: The order of its axes there.
        kind: Of its layer, as far as names and shapes tell: conv, conv_transpose, embedding.
    """

    path: str
    axes: Shape
    kind: str = ""


def params_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A PyTorch state dict as nested parameters with Flax names and layouts.

    ``weight`` becomes ``kernel`` ``[in, out]`` (linear), ``kernel`` ``[*window, in, out]``
    (convolution), ``kernel`` ``[num, in, out]`` (stacked layers, such as experts), ``scale`` (one
    axis) or ``embedding`` ``[num, features]`` (a module named like one, without a bias); running
    statistics become ``mean`` and ``var``. Everything else keeps its name and layout. Three axes
    are a convolution where "conv" is in the name of its module or the one around it, or the last
    axis is as short as a window. What wrappers add to the names is dropped: ``module.``, ``model.``
    and ``_forward_module.`` in front, and ``_orig_mod.`` and its like anywhere.

    Args:
        state_dict: Names such as ``layer1.0.conv1.weight`` to tensors or NumPy arrays. torch is not
            imported.

    Returns:
        Nested dict of NumPy arrays in the types of the tensors, bfloat16 included.

    Raises:
        ValueError: If a name stands both for a tensor and for a module of tensors, or two tensors
            get the same name.
        TypeError: If a value is neither a tensor nor an array.

    Example:
        >>> import numpy as np, spectral_reg as sr
        >>> state_dict = {"module.fc.weight": np.ones((10, 64)), "module.fc.bias": np.ones(10)}
        >>> params = sr.params_from_torch(state_dict)
        >>> params["fc"]["kernel"].shape
        (64, 10)

    Transposed convolutions cannot be told from ordinary ones by name, and come out with in and out
    exchanged; no spectrum depends on that. Cost: no copy of a tensor on the CPU, but views of it.
    """
    params: dict[str, Any] = {}
    stripped = strip_prefixes(state_dict)
    arrays: dict[str, Any] = {}
    for name, (original, tensor) in stripped.items():
        arrays[name] = tensor_values(tensor) if hasattr(tensor, "detach") else tensor
        if not hasattr(arrays[name], "ndim"):
            came = type(tensor).__name__
            raise TypeError(f"{original!r} is of type {came}; expected a tensor or array")
    places = flax_places({name: array.shape for name, array in arrays.items()})
    for name, (original, _) in stripped.items():
        *parents, leaf = places[name].path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(
                    f"{original!r} is inside {parent!r}, which is a tensor; expected a module there"
                )
        if leaf in node:
            raise ValueError(
                f"{original!r} is {leaf!r} in Flax, and so is another tensor; expected a name for "
                "each"
            )
        node[leaf] = np.asarray(arrays[name]).transpose(places[name].axes)
    return params


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Names without what wrappers add to them, to the original name and the tensor.

    Each by itself, so that a tensor is called the same whatever lies beside it.

    Raises:
        ValueError: If two names become one; where only prefixes tell them apart, they keep these.
    """
    bare = {name: WRAPPERS.sub("", name) for name in state_dict}
    short = {name: _without_prefixes(inner) for name, inner in bare.items()}
    count = Counter(short.values())
    stripped: dict[str, tuple[str, Any]] = {}
    for name, tensor in state_dict.items():
        found = short[name] if count[short[name]] == 1 else bare[name]
        if found in stripped:
            other = stripped[found][0]
            raise ValueError(
                f"{name!r} is {found!r} without its prefix, and so is {other!r}; expected a name "
                "for each"
            )
        stripped[found] = name, tensor
    return stripped


def _without_prefixes(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p) and name != p), None):
        name = name.removeprefix(prefix)
    return name


def flax_places(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str] | None = None
) -> dict[str, FlaxPlace]:
    """Where the tensors of a state dict lie in Flax.

    Args:
        shapes: By name in PyTorch, such as ``layer1.0.conv1.weight``.
        kinds: Of their layers, where that is known: of those in ``fitting``'s ``Tensor``.
    """
    kinds = kinds or {}
    return {name: _place(name, shapes, kinds.get(name, "")) for name in shapes}


def _place(name: str, shapes: Mapping[str, Shape], kind: str) -> FlaxPlace:
    shape = shapes[name]
    module, _, last = name.rpartition(".")
    axes = tuple(range(len(shape)))
    parents = "/".join(filter(None, module.split(".")))
    if last == "weight" and not kind:
        kind = _kind(module, shape, shapes.get(f"{module}.bias", ()))
    if last != "weight":
        leaf = RENAMED.get(last, last)
    elif len(shape) < 2 or kind == "norm":
        leaf = "scale"
    elif kind == "embedding":
        leaf = "embedding"
    else:
        leaf = "kernel"
        if kind == "conv_transpose":
            axes = (*axes[2:], 0, 1)
        elif kind == "conv":
            axes = (*axes[2:], 1, 0)
        elif kind != "bilinear":  # [out, in, other in], a matrix for each output
            axes = (*axes[:-2], axes[-1], axes[-2])
    return FlaxPlace("/".join(filter(None, (parents, leaf))), axes, kind)


def _kind(module: str, shape: Shape, bias: Shape) -> str:
    """What the layer of a weight is, from its name, its shape and the bias beside it."""
    named = (p for p in module.split(".") if not p.isdecimal() and p != "base_layer")
    *parents, layer = ["", *named]
    if len(shape) == 2 and len(bias) != 1 and is_norm(layer):
        return "norm"  # the scales of a stack of layers
    if len(shape) == 2 and not bias:
        is_embedding = EMBEDDING.fullmatch(layer.rstrip("0123456789")) and not PATCHES.match(layer)
        return "embedding" if is_embedding else ""
    if len(shape) < 3 or not (
        len(shape) > 3
        or any("conv" in name.lower() for name in (*parents[-1:], layer))
        or _has_window(shape)
    ):
        return ""
    num_outputs = shape[0]
    # A transposed convolution has its outputs on the second axis, as the bias shows.
    turned = len(bias) == 1 and bias[0] != num_outputs and bias[0] % shape[1] == 0
    return "conv_transpose" if turned else "conv"


def _has_window(shape: Shape) -> bool:
    num_outputs, num_inputs, window = shape
    return window == 1 or num_inputs == 1 or (window <= MAX_WINDOW and 2 * window <= num_outputs)


def tensor_values(tensor: Any) -> np.ndarray:
    """The values of a PyTorch tensor, exactly, in its own type.

    Raises:
        TypeError: If NumPy does not know the type, with those that JAX adds to it.
    """
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if hasattr(np, name):
        return tensor.numpy()
    try:
        dtype = np.dtype(name)  # bfloat16 and the 8-bit types, which JAX adds to NumPy's
    except TypeError:
        raise TypeError(f"a tensor is of type {tensor.dtype}; expected one of NumPy's") from None
    torch = sys.modules["torch"]  # the tensor's own
    bits = tensor.view(torch.uint8 if tensor.itemsize == 1 else torch.int16)
    return bits.numpy().view(dtype)
