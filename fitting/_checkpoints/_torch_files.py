"""PyTorch files, without running a stranger's code."""

import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ._naming import flax_named
from ._reading import missing_package, reading
from ._tensor import Tensor
from ._torch_tensors import STAND_INS, find_state_dict, list_tensors, read_values, values_at

PICKLED = (".pt", ".pth", ".th", ".bin", ".tar", ".ckpt")
KIND = "PyTorch file"


def open_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its path in Flax; those outside its state dict with a reason.

    Raises:
        ValueError: If the file is damaged, holds no tensors, or needs classes to be loaded.
        ImportError: If torch is not installed.
    """
    weights, others = _read(path)
    return flax_named(weights) | others


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file's state dict by their names in it.

    Raises:
        ValueError: As for :func:`open_torch`.
        ImportError: If torch is not installed.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    loaded, lazily = _load(path)
    read = partial(partial, _read_mapped, path) if lazily else None
    with reading(path, KIND):
        return list_tensors(loaded, find_state_dict(loaded), read)


def _load(path: Path) -> tuple[Any, bool]:
    """What the file holds, and whether its values can be read from it one at a time."""
    try:
        import torch
    except ImportError as error:
        raise missing_package(path, "torch", "torch") from error
    import pickle

    lazily = _is_mappable(path)
    with reading(path, KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pickle protocol that torch may not know all of
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=lazily), lazily
        except pickle.UnpicklingError as error:
            refused = error
        try:
            # This list is torch's, for all threads: so such a file is not read again later.
            with torch.serialization.safe_globals(list(STAND_INS)):
                return torch.load(path, map_location="cpu", weights_only=True), False
        except pickle.UnpicklingError:
            raise ValueError(
                "it is damaged, or holds Python objects beside its tensors, and those are never "
                "loaded. Where you trust its source, open it yourself and save the weights alone: "
                "torch.save(model.state_dict(), path)"
            ) from refused


def _is_mappable(path: Path) -> bool:
    """Whether a file is a zip archive as torch writes it, and no older format."""
    with reading(path, KIND):
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                raise ValueError(
                    "it is a TorchScript program; save its weights: "
                    "torch.save(torch.jit.load(path).state_dict(), other_path)"
                )
            pickles = [name for name in names if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise ValueError("it is a zip archive, but none of torch.save")
            with archive.open(pickles[0]) as file:
                return file.read(2) == b"\x80\x02"


def _read_mapped(path: Path, keys: tuple[Any, ...]) -> np.ndarray:
    import torch

    with reading(path, KIND):
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return np.array(read_values(values_at(loaded, keys)))  # a copy: the map is closed
