"""PyTorch state dicts as Flax parameters."""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# What wrappers put in front of every name: DataParallel, Lightning and the like.
PREFIXES = ("module.", "model.")
# What torch.compile, FSDP and activation checkpointing put in the middle too: no module's own name.
WRAPPERS = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.(?=[^.])"
)
RENAMED = {"running_mean": "mean", "running_var": "var"}
EMBEDDING = re.compile(r"(^|[._])(embed\w*|embeddings?|wte|wpe|tok\w*_emb\w*)(\d*)$")


def params_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A PyTorch state dict as nested parameters with Flax names and layouts.

    ``weight`` becomes ``kernel`` ``[in, out]`` (linear), ``kernel`` ``[*window, in, out]``
    (convolution), ``scale`` (one axis) or ``embedding`` ``[num, features]`` (a module named like
    one); running statistics become ``mean`` and ``var``. Everything else keeps its name and layout.
    What wrappers add to the names is dropped: ``module.`` and ``model.`` in front of all of them,
    and ``_orig_mod.`` and its like anywhere.

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
    for name, (original, tensor) in strip_prefixes(state_dict).items():
        array = tensor_values(tensor) if hasattr(tensor, "detach") else tensor
        if not hasattr(array, "ndim"):
            came = type(array).__name__
            raise TypeError(f"{original!r} is of type {came}; expected a tensor or array")
        path, axes = flax_path(name, array.ndim)
        *parents, leaf = path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{original!r} lies inside {parent!r}, which is itself a tensor")
        if leaf in node:
            raise ValueError(f"{original!r} and another tensor are both named {leaf!r} in Flax")
        node[leaf] = np.asarray(array).transpose(axes)
    return params


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Names without what wrappers add to them, to the original name and the tensor.

    Raises:
        ValueError: If two names become one.
    """
    names = {name: WRAPPERS.sub("", name) for name in state_dict}
    while prefix := next((p for p in PREFIXES if _all_start_with(names.values(), p)), None):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    stripped: dict[str, tuple[str, Any]] = {}
    for name, short in names.items():
        if short in stripped:
            other = stripped[short][0]
            raise ValueError(f"{other!r} and {name!r} are both {short!r} without their prefixes")
        stripped[short] = name, state_dict[name]
    return stripped


def _all_start_with(names: Iterable[str], prefix: str) -> bool:
    names = list(names)
    return bool(names) and all(name.startswith(prefix) and name != prefix for name in names)


def flax_path(name: str, ndim: int, kind: str = "") -> tuple[str, tuple[int, ...]]:
    """A tensor's path in Flax, and the order of its axes there.

    Args:
        name: In PyTorch, such as ``layer1.0.conv1.weight``.
        ndim: Its number of axes.
        kind: Of its layer, where that is known: of those in ``fitting``'s ``Tensor``.
    """
    module, _, last = name.rpartition(".")
    axes = tuple(range(ndim))
    if last != "weight":
        leaf = RENAMED.get(last, last)
    elif ndim < 2 or kind == "norm":
        leaf = "scale"
    elif kind == "bilinear":
        leaf = "kernel"  # [out, in, other in], a matrix for each output
    elif kind == "embedding" or (not kind and ndim == 2 and EMBEDDING.search(module)):
        leaf = "embedding"
    else:
        leaf = "kernel"
        axes = (*axes[2:], 0, 1) if kind == "conv_transpose" else (*axes[2:], 1, 0)
    return "/".join((*filter(None, module.split(".")), leaf)), axes


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
