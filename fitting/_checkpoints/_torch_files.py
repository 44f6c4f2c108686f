"""PyTorch files, without running a stranger's code."""

import re
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import missing_package, reading
from ._naming import flax_named
from ._quantized import quantization_settings, read_quantized
from ._safetensors_files import read_bytes
from ._tensor import Tensor
from ._torch_tensors import (
    STAND_INS,
    find_state_dict,
    is_torch_tensor,
    list_tensors,
    torch_leaves,
)

PICKLED = (".pt", ".pth", ".th", ".bin", ".tar", ".ckpt")
KIND = "PyTorch file"
# The class that torch names where it refuses a pickle.
REFUSED = re.compile(r"GLOBAL ([\w.]+) was not")
# From here on weights_only=True runs nothing of a file's.
SAFE_TORCH = (2, 6)


def open_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its path in Flax; those outside its state dict with a reason.

    Raises:
        ValueError: If the file is damaged, holds no tensors, or needs classes to be loaded.
        ImportError: If torch is not installed.
    """
    weights, others = _read(path)
    return flax_named(read_quantized(weights, quantization_settings(path.parent))) | others


def read_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file; those of its state dict by their names in it.

    Raises:
        ValueError: As for :func:`open_torch`.
        ImportError: If torch is not installed.
    """
    weights, others = _read(path)
    return weights | others


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    try:
        import torch
    except ImportError as error:
        raise missing_package(path, "torch", "torch") from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_TORCH:
        raise ImportError(
            f"reading {path.name} needs torch 2.6 or later, but {torch.__version__} is installed: "
            "earlier ones can be made to run code by a file (CVE-2025-32434)"
        )
    with reading(path, KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pickle protocol that torch may not know all of
        is_mappable = _is_mappable(path)
        loaded = _load_places(path) if is_mappable else None
        read_lazily = partial(_reader, path) if loaded is not None else None
        if loaded is None:
            loaded = _load(path, mmap=is_mappable)
        return list_tensors(loaded, find_state_dict(loaded), read_lazily)


def _is_mappable(path: Path) -> bool:
    """Whether the values lie in the file as they do in memory; in older formats they do not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "constants.pkl" in records:
            raise ValueError(
                "it is a TorchScript program; save its weights: "
                "torch.save(torch.jit.load(path).state_dict(), other_path)"
            )
        if "data.pkl" not in records:
            raise ValueError("it is a zip archive, but none of torch.save")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            return False
    return all(info.compress_type == zipfile.ZIP_STORED for info in records.values())


def _load_places(path: Path) -> Any:
    """What the file holds, its tensors without values; None if torch does not say where these are.

    Quantized and sparse tensors have none that could be said, nor had any in early versions.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # whatever it is, the load with values says it better
        return None
    tensors = [leaf for _, leaf in torch_leaves(loaded, (), set()) if is_torch_tensor(leaf)]
    return loaded if all(_is_placed(tensor) for tensor in tensors) else None


def _is_placed(tensor: Any) -> bool:
    plain = str(tensor.layout) == "torch.strided" and not tensor.is_quantized
    return plain and hasattr(tensor.untyped_storage(), "_checkpoint_offset")


def _load(path: Path, *, mmap: bool) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = error
    try:
        with torch.serialization.safe_globals(list(STAND_INS)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        found = REFUSED.search(str(error))
        what = f"an object of the class {found[1]}" if found else "Python objects"
        damaged = "" if found else "is damaged, or "
        raise ValueError(
            f"it {damaged}holds {what} beside its tensors, and those are never "
            "loaded. Where you trust its source, open it yourself and save the weights alone: "
            "torch.save(model.state_dict(), path)"
        ) from refused


def _reader(path: Path, tensor: Any) -> partial[np.ndarray]:
    """What reads a tensor's values from their place in the file."""
    storage = tensor.untyped_storage()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    span = 0 if 0 in tensor.shape else 1 + sum((size - 1) * stride for size, stride in steps)
    begin = tensor.storage_offset() * tensor.itemsize
    offset, end = storage._checkpoint_offset + begin, begin + span * tensor.itemsize
    if end > storage.nbytes() or offset + span * tensor.itemsize > path.stat().st_size:
        raise ValueError(f"it ends before its tensor of shape {tuple(tensor.shape)} does")
    dtype = str(tensor.dtype).removeprefix("torch.")
    return partial(_read_values, path, dtype, span, offset, tuple(tensor.shape), tensor.stride())


def _read_values(
    path: Path, dtype: str, span: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> np.ndarray:
    flat = read_bytes(path, dtype, (span,), offset)
    strides = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)
