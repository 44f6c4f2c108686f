"""PyTorch state dicts as Flax parameters."""

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

# What wrappers put in front of every name: DataParallel, torch.compile, Lightning and the like.
PREFIXES = ("module.", "_orig_mod.", "model.")
RENAMED = {"running_mean": "mean", "running_var": "var"}
EMBEDDING = re.compile(r"(^|[._])(embed\w*|embeddings?|wte|wpe|tok\w*_emb\w*)(\d*)$")


def params_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A PyTorch state dict as nested parameters with Flax names and layouts.

    ``weight`` becomes ``kernel`` [in, out] (linear), ``kernel`` [*window, in, out] (convolution),
    ``scale`` (one axis) or ``embedding`` [num, features] (a module named like one); running
    statistics become ``mean`` and ``var``. Everything else keeps its name and layout. Prefixes that
    wrappers put in front of every name (``module.``, ``_orig_mod.``, ``model.``) are dropped.

    Args:
        state_dict: Names such as ``layer1.0.conv1.weight`` to tensors or NumPy arrays. torch is not
            imported.

    Returns:
        Nested dict of NumPy arrays in the types of the tensors, bfloat16 included.

    Raises:
        ValueError: If a name stands both for a tensor and for a module of tensors.
        TypeError: If a value is neither a tensor nor an array.

    Example:
        >>> import numpy as np, spectral_reg as sr
        >>> state_dict = {"module.fc.weight": np.ones((10, 64)), "module.fc.bias": np.ones(10)}
        >>> params = sr.params_from_torch(state_dict)
        >>> params["fc"]["kernel"].shape
        (64, 10)

    Transposed convolutions cannot be told from ordinary ones by name, and come out with in and out
    exchanged; no spectrum depends on that.
    """
    params: dict[str, Any] = {}
    for name, tensor in strip_prefixes(state_dict).items():
        *parents, last = name.split(".")
        leaf, array = _flax_leaf(".".join(parents), last, _as_numpy(name, tensor))
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} lies inside {parent!r}, which is itself a tensor")
        if leaf in node:
            raise ValueError(f"{name!r} and another tensor are both named {leaf!r} in Flax")
        node[leaf] = array
    return params


def strip_prefixes(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same tensors without the prefixes that every name shares."""
    while state_dict:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state_dict)), None)
        if prefix is None:
            break
        state_dict = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    return state_dict


def _as_numpy(name: str, tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none; float32 holds every bfloat16
            return tensor.float().numpy().astype(ml_dtypes.bfloat16)
        return tensor.numpy()
    if not hasattr(tensor, "ndim"):
        raise TypeError(f"{name!r} is of type {type(tensor).__name__}; expected a tensor or array")
    return np.asarray(tensor)


def _flax_leaf(module: str, name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if name != "weight":
        return RENAMED.get(name, name), array
    if array.ndim < 2:
        return "scale", array
    if array.ndim == 2 and EMBEDDING.search(module):
        return "embedding", array
    return "kernel", array.transpose(*range(2, array.ndim), 1, 0)
