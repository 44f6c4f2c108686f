"""Safetensors files: a header, and tensors at known places after it."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ._errors import reading
from ._naming import natural_order
from ._tensor import Tensor, transposed, without_values

SAFETENSORS = ".safetensors"
KIND = "safetensors file"
# The header may not be longer than in the format's own library.
MAX_HEADER = 100_000_000
TYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16,
    "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16,
    "F32": np.float32, "F64": np.float64, "C64": np.complex64, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip
# Several of their numbers share a byte.
PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by their names in it, in the order of their numbers.

    Raises:
        ValueError: If the file is damaged.
    """
    with reading(path, KIND):
        header, start = _read_header(path)
        metadata = header.pop("__metadata__", None) or {}
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            end = _check_entry(name, entry, end)
        size = path.stat().st_size - start
        if end != size:
            raise ValueError(f"its tensors take {end} bytes, but {size} follow the header")
        names = sorted(header, key=natural_order)
        tensors = {name: _tensor(path, name, header[name], start) for name in names}
        if metadata.get("format") != "mlx":
            return tensors
        return {name: _from_mlx(name, tensor) for name, tensor in tensors.items()}


def _from_mlx(name: str, tensor: Tensor) -> Tensor:
    """The tensor in PyTorch's order: MLX has the inputs of a convolution last."""
    has_window = tensor.ndim > 3 or (tensor.ndim == 3 and "conv" in name.lower())
    if tensor.reason or not (has_window and name.endswith("weight")):
        return tensor
    window = tuple(range(1, tensor.ndim - 1))
    return transposed(tensor, (0, tensor.ndim - 1, *window))


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise ValueError(f"its header claims {length} bytes, but the file has {size}")
        header = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
    if not isinstance(header, dict):
        raise ValueError(f"its header is a {type(header).__name__}; expected names and tensors")
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has two of {next(name for name in names if names.count(name) > 1)!r}")
    return unique


def _check_entry(name: str, entry: dict[str, Any], previous_end: int) -> int:
    """Where a tensor's values end, if they follow the previous ones and have the right size."""
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if not all(isinstance(size, int) and size >= 0 for size in (*shape, begin, end)):
        raise ValueError(f"{name!r} has the shape {shape} and the bytes {begin} to {end}")
    if entry["dtype"] not in (*TYPES, *PACKED_BITS):
        raise ValueError(f"{name!r} is of the unknown type {entry['dtype']!r}")
    bits = PACKED_BITS.get(entry["dtype"]) or 8 * np.dtype(TYPES[entry["dtype"]]).itemsize
    if begin != previous_end or 8 * (end - begin) != math.prod(shape) * bits:
        raise ValueError(f"{name!r} of shape {shape} cannot lie in the bytes {begin} to {end}")
    return end


def _tensor(path: Path, name: str, entry: dict[str, Any], start: int) -> Tensor:
    shape, packed = tuple(entry["shape"]), entry["dtype"]
    if packed in PACKED_BITS:
        reason = f"quantized to {packed}, several numbers in a byte"
        return without_values(shape, packed, origin=name, reason=reason)
    dtype = np.dtype(TYPES[packed])
    offset = start + entry["data_offsets"][0]
    return stored(path, dtype.name, shape, offset, name)


def stored(path: Path, dtype: str, shape: tuple[int, ...], offset: int, name: str) -> Tensor:
    """A tensor whose values lie in a file as they are in memory."""
    read = partial(read_bytes, path, dtype, shape, offset)
    at = partial(_stored_at, path, dtype, shape, offset, name) if len(shape) > 2 else None
    return Tensor(shape, dtype, read, name, at=at)


def _stored_at(
    path: Path, dtype: str, shape: tuple[int, ...], offset: int, name: str, place: int
) -> Tensor:
    offset += place * math.prod(shape[1:]) * _dtype(dtype).itemsize
    return stored(path, dtype, shape[1:], offset, name)


def read_bytes(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> np.ndarray:
    """Values that lie in a file as they are in memory, little end first.

    Raises:
        ValueError: If the file ends before they do.
    """
    count = math.prod(shape)
    flat = np.fromfile(path, _dtype(dtype), count, offset=offset)
    if flat.size < count:
        raise ValueError(f"{path.name} ends before its tensor at byte {offset} does")
    return flat.reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)
