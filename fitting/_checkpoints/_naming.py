"""The names in a file as paths in Flax."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import spectral_reg as sr
from spectral_reg._from_torch import flax_places, strip_prefixes

from ._tensor import Tensor, merge, transposed

# The parts of a training state that are no weights: where its names begin, and anywhere in them.
TRAINING = re.compile(r"(opt|optim|optimizers?|schedulers?|lr_schedulers?|scaler)(_\w*)?")
OPTIMIZER = re.compile(r"opt_state|optimizers?|optimizer_states?|optimizer_state_dict")
# Beside the weights, moving averages of theirs.
AVERAGES = re.compile(r"(\w+_)?(ema|polyak)(_\w+)?|(avg|average|averaged)_(params|weights|model)")
WEIGHTS = ("params", "model", "state_dict", "weights", "net")
NUMBERS = re.compile(r"(\d+)")


def flax_named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their paths in Flax, in its layouts.

    A name with slashes is such a path already. Others are PyTorch's, and ``kernel`` and the like,
    which PyTorch does not know, stay what they are.

    Raises:
        ValueError: If two tensors get the same path.
    """
    stripped = strip_prefixes(tensors)
    places = flax_places(
        {name: tensor.shape for name, (_, tensor) in stripped.items()},
        {name: tensor.kind for name, (_, tensor) in stripped.items()},
    )
    named = []
    for short, (origin, tensor) in stripped.items():
        path, axes, kind = places[short]
        if "/" in short:
            path, axes, kind = short, tuple(range(tensor.ndim)), tensor.kind
        is_stack = not kind and axes[:1] == (0,) and path.endswith("/kernel") and tensor.ndim == 3
        known = tensor.axes or (sr.MatrixAxes() if is_stack else None)
        tensor = replace(tensor, origin=origin, kind=kind, axes=known)
        named.append((path, transposed(tensor, axes)))
    return merge(named)


def is_named_by_torch(value: Any) -> bool:
    """Whether a value is a flat dict of arrays whose names are those of a PyTorch state dict."""
    if not (isinstance(value, Mapping) and value):
        return False
    flat = all(isinstance(key, str) and hasattr(leaf, "shape") for key, leaf in value.items())
    return flat and any("." in key for key in value) and not any("/" in key for key in value)


def is_training_state(keys: tuple[str, ...]) -> bool:
    """Whether keys lead into the state of an optimizer or the like."""
    return any(OPTIMIZER.fullmatch(key) for key in keys[1:-1]) or bool(
        len(keys) > 1 and TRAINING.fullmatch(keys[0])
    )


def is_average(keys: tuple[str, ...], beside: Collection[str]) -> bool:
    """Whether keys lead into a copy of the weights that averages them over the training.

    Args:
        keys: Of a leaf.
        beside: The first keys of all leaves.
    """
    return bool(AVERAGES.fullmatch(keys[0])) and any(name in beside for name in WEIGHTS)


def keys_in_order(tree: Mapping[Any, Any]) -> list[Any]:
    """The keys as they were put in, which is the model's order unless they were sorted.

    ``jax.jit`` and Hugging Face sort them, layer 10 before layer 2; such come by their numbers.
    """
    keys = list(tree)
    names = [str(key) for key in keys]
    if names != sorted(names):
        return keys
    return sorted(keys, key=lambda key: natural_order(str(key)))


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key by which layer 2 sorts before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in NUMBERS.split(name)]
