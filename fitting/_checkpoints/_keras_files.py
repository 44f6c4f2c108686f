"""Keras files: .keras, .weights.h5 and the older .h5, by their datasets."""

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ._errors import MAX_COMPRESSION, missing_package, reading
from ._keras_layers import (
    Layers,
    configured_layer,
    flax_names,
    flax_variable,
    guessed_layer,
    index_layers,
    variable_name,
)
from ._naming import is_training_state
from ._tensor import Tensor, merge, reason_of_type, without_values

KERAS = (".keras", ".h5", ".hdf5")
KIND = "Keras file"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Groups that say where in the model's object its layers are, but are no layers.
CONTAINERS = ("layers", "_layer_checkpoint_dependencies", "model_weights")
MAX_CONFIG = 100_000_000


def open_keras(path: Path) -> dict[str, Tensor]:
    """Every variable of a file by the names of its layers.

    Raises:
        ValueError: If the file is damaged, or two variables get the same path.
        ImportError: If h5py is not installed.
    """
    with reading(path, KIND):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(CONFIG).file_size > MAX_CONFIG:
                    raise ValueError(f"{CONFIG} takes more than {MAX_CONFIG} bytes")
                layers = index_layers(json.loads(archive.read(CONFIG)))
        else:
            layers = {}
        with _open(path) as file:
            config = file.attrs.get("model_config")
            if config is not None:
                layers = index_layers(json.loads(config))
            tensors = [_tensor(path, dataset, file, layers) for dataset in _datasets(file)]
            if len(dict(tensors)) < len(tensors):  # a model's own classes may repeat names
                tensors = [
                    _tensor(path, dataset, file, layers, by_name=False)
                    for dataset in _datasets(file)
                ]
            order = {names[0]: index for index, names in reversed(list(enumerate(layers)))}
            return merge(sorted(tensors, key=lambda named: _place(named[0], order)))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise missing_package(path, "h5py", "keras") from error
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(WEIGHTS)
        if info.file_size > MAX_COMPRESSION * info.compress_size:
            raise ValueError(f"{WEIGHTS} claims {info.file_size} bytes, more than it can hold")
        with archive.open(info) as member, h5py.File(member, "r") as file:
            yield file


def _place(path: str, order: Mapping[str, int]) -> int:
    """HDF5 sorts by name; the configuration has the layers in the order of the model."""
    return order.get(path.split("/")[0], sys.maxsize)


def _datasets(file: Any) -> list[Any]:
    import h5py

    found: list[Any] = []
    # This follows no links, which could lead to other files.
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _tensor(
    path: Path, dataset: Any, file: Any, layers: Layers, *, by_name: bool = True
) -> tuple[str, Tensor]:
    origin = dataset.name.strip("/")
    tensor = _raw_tensor(path, dataset, origin)
    parts = origin.split("/")
    if is_training_state(tuple(parts)):
        reason = "part of an optimizer's state, not a weight"
        return origin, without_values(tensor.shape, tensor.dtype, origin=origin, reason=reason)
    if len(parts) > 1 and parts[-2] == "vars":
        groups, names = _named_groups(file, parts[:-2])
        layer = configured_layer(names, layers) or guessed_layer(groups) or guessed_layer(names)
        variable = variable_name(layer, int(parts[-1]), dataset.parent)
        names = names if by_name else groups
    else:
        *names, variable = [part for part in parts if part not in CONTAINERS]
        names = names[1:] if names[:1] == names[1:2] else names
        variable = variable.removesuffix(":0")
        layer = configured_layer(names, layers) or guessed_layer(names)
    leaf, tensor = flax_variable(layer, variable, tensor)
    return "/".join((*flax_names(layer, names), leaf)), tensor


def _named_groups(file: Any, parts: list[str]) -> tuple[list[str], list[str]]:
    """The groups that are layers, and the names of these layers where the file has them."""
    groups, names = [], []
    for length, part in enumerate(parts, start=1):
        if part in CONTAINERS:
            continue
        attributes: Mapping[str, Any] = {}
        variables = file.get("/".join((*parts[:length], "vars")))
        if variables is not None:
            attributes = variables.attrs
        groups.append(part)
        names.append(str(attributes.get("name", part)))
    return groups, names


def _raw_tensor(path: Path, dataset: Any, origin: str) -> Tensor:
    dtype = np.dtype(dataset.dtype)
    if dataset.attrs.get("dtype") == "bfloat16" and dtype.itemsize == 2:
        dtype = np.dtype(ml_dtypes.bfloat16)
    reason = reason_of_type(dtype)
    if dataset.shape is None:
        reason = "it has no values"
    elif dataset.external or dataset.is_virtual:
        reason = "its values are in another file"
    if reason:
        return without_values(dataset.shape or (), dtype.name, origin=origin, reason=reason)
    if dataset.nbytes > MAX_COMPRESSION * (dataset.id.get_storage_size() + 1):
        raise ValueError(f"{origin} claims {dataset.nbytes} bytes, more than its data can hold")
    return Tensor(dataset.shape, dtype.name, partial(_read, path, origin, dtype.name), origin)


def _read(path: Path, origin: str, dtype: str) -> np.ndarray:
    with reading(path, KIND), _open(path) as file:
        values = np.asarray(file[origin][()])
        return values.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else values
