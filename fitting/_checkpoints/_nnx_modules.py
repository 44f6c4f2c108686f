"""Live Flax nnx models, whose layers say what they are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax

import spectral_reg as sr

from ._jax_files import open_pytree
from ._tensor import Tensor


def is_nnx_module(value: Any) -> bool:
    """Whether a value is a flax.nnx.Module."""
    return any((base.__module__, base.__name__) == ("flax.nnx.module", "Module")
               for base in type(value).__mro__)  # fmt: skip


def open_nnx_module(module: Any) -> dict[str, Tensor]:
    """Every leaf of a model by its path, with the kind of its layer.

    They come in the order in which the model's attributes were set, as in PyTorch.
    """
    from flax import nnx  # of which the model is

    layers = {"/".join(map(str, path)): layer for path, layer in nnx.iter_modules(module)}
    places = {path: list(vars(layer)) for path, layer in layers.items()}
    tensors = sorted(open_pytree(module).items(), key=lambda item: _place(item[0], places))
    variables = {
        sr.path_name(path): id(variable)
        for path, variable in jax.tree.leaves_with_path(
            module, is_leaf=lambda node: isinstance(node, nnx.Variable)
        )
    }
    return {path: replace(tensor, identity=variables.get(path)) for path, tensor in tensors}


def _place(path: str, places: Mapping[str, list[str]]) -> list[int]:
    """Which attribute each part of a path is; one that is none comes last."""
    place = []
    parent = ""
    for part in path.split("/"):
        names = places.get(parent, [])
        place.append(names.index(part) if part in names else len(names))
        parent = f"{parent}/{part}".removeprefix("/")
    return place
