"""The tensors in what torch.load or a live model gives."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from spectral_reg._from_torch import tensor_values

from ._naming import is_training_state
from ._tensor import Tensor, in_memory, merge, without_values

# Where training scripts put the state dict among epochs and optimizer states, in this order.
STATE_DICT_KEYS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
)  # fmt: skip

# Parameters that have no shape before their layer is first called.
UNINITIALIZED = ("UninitializedParameter", "UninitializedBuffer")

Keys = tuple[Any, ...]


class _StandIn:
    """Takes the place of an object of a stranger's class: keeps what it was given, does nothing."""

    parts: tuple[Any, ...]

    def __new__(cls, *parts: Any) -> "_StandIn":  # pickles do not always call __init__
        stand_in = super().__new__(cls)
        stand_in.parts = parts
        return stand_in

    def __setstate__(self, state: Any) -> None:
        self.parts = (*self.parts, state)


def _stand_in(module: str, name: str) -> type:
    return type(name, (_StandIn,), {"__module__": module, "__qualname__": name})


# The classes that a pickle may name beside torch's own. Nothing of theirs is imported or run.
STAND_INS = tuple(
    _stand_in(module, name)
    for module, name in (
        ("distiller.thinning", "ThinningRecipe"),
        ("argparse", "Namespace"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    )
)


def find_state_dict(loaded: Any) -> Keys:
    """The keys that lead to the state dict; none if it is all of it."""
    keys: Keys = ()
    while isinstance(loaded, Mapping):
        found = (key for key in STATE_DICT_KEYS if _holds_tensors(loaded.get(key)))
        key = next(found, None)
        if key is None:
            break
        keys, loaded = (*keys, key), loaded[key]
    return keys


def list_tensors(
    loaded: Any,
    state_dict: Keys,
    read_lazily: Callable[[Any], partial[np.ndarray]] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the state dict by name, and the others by path, with a reason.

    Args:
        loaded: What holds them.
        state_dict: The keys that lead to the state dict.
        read_lazily: Makes what reads a tensor, from a place that its arguments say; None keeps the
            tensors themselves.
    """
    weights, others = [], []
    for keys, value in torch_leaves(loaded, (), set()):
        names = tuple(map(str, keys))
        tensor = _tensor(value, ".".join(names), read_lazily)
        rest = names[len(state_dict) :]
        if keys[: len(state_dict)] == state_dict and not is_training_state(rest):
            weights.append((".".join(rest) or "tensor", tensor))
            continue
        common = next((i for i, key in enumerate(state_dict) if keys[i] != key), len(state_dict))
        reason = f"not in the state dict, under {'.'.join(names[: common + 1])!r}"
        others.append(("/".join(names), replace(tensor, reason=reason)))
    if not weights:
        came = f"the keys {list(loaded)}" if isinstance(loaded, Mapping) else type(loaded).__name__
        raise ValueError(
            "it holds no tensors where they are looked for: expected a state dict, or a dict with "
            f"one under {', '.join(STATE_DICT_KEYS)}; it holds {came}"
        )
    return merge(weights), merge(others)


class _Values:
    """Reads a tensor in memory. In another process it is an array, which needs no torch there."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __call__(self) -> np.ndarray:
        return tensor_values(self.tensor)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (np.asarray, self())


def is_torch_tensor(value: Any) -> bool:
    """Whether a value is a tensor of PyTorch, which need not be imported."""
    return hasattr(value, "detach") and hasattr(value, "layout")


def _children(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, _StandIn):
        return dict(enumerate(value.parts))
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(True for _ in torch_leaves(value, (), set()))


def torch_leaves(value: Any, keys: Keys, seen: set[int]) -> Iterator[tuple[Keys, Any]]:
    """The tensors and arrays in nested containers, each container once however often it occurs."""
    if is_torch_tensor(value) or isinstance(value, np.ndarray):
        yield keys, value
        return
    if id(value) in seen:
        return
    if type(value).__name__ == "_reconstruct" and isinstance(value, _StandIn):
        yield keys, value
    seen.add(id(value))
    for key, child in _children(value).items():
        yield from torch_leaves(child, (*keys, key), seen)


def _tensor(
    value: Any, origin: str, read_lazily: Callable[[Any], partial[np.ndarray]] | None
) -> Tensor:
    if isinstance(value, np.ndarray):
        return in_memory(value, origin=origin)
    if isinstance(value, _StandIn):
        return without_values((), "", origin=origin, reason="a pickled NumPy array, never loaded")
    dtype = str(value.dtype).removeprefix("torch.")
    if type(value).__name__ in UNINITIALIZED:
        reason = "not initialized: its lazy layer has not seen an input yet"
        return without_values((), dtype, origin=origin, reason=reason)
    shape = tuple(value.shape)
    on_meta = value.device.type == "meta" and not read_lazily
    if reason := "on the meta device, without values" if on_meta else _reason(value, dtype):
        return without_values(shape, dtype, origin=origin, reason=reason)
    if read_lazily:
        lazy = read_lazily(value)
        return Tensor(shape, dtype, lazy, origin, identity=lazy.args if value.numel() else None)
    return Tensor(shape, dtype, _Values(value.detach()), origin, identity=_place(value))


def _place(tensor: Any) -> tuple[Any, ...] | None:
    """Where a tensor lies in memory: tied weights lie in one place."""
    if not tensor.numel():
        return None
    storage = tensor.untyped_storage()
    return storage._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _reason(tensor: Any, dtype: str) -> str:
    if tensor.is_quantized:
        return f"quantized to {dtype}"
    if str(tensor.layout) != "torch.strided":
        return f"of layout {tensor.layout}"
    readable = hasattr(np, dtype) or (tensor.is_floating_point() and hasattr(ml_dtypes, dtype))
    return "" if readable else f"of type {dtype}"
