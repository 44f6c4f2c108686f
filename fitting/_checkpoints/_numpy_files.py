"""NumPy's .npz archives."""

import math
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import MAX_COMPRESSION, reading
from ._naming import flax_named, keys_in_order
from ._tensor import Tensor, reason_of_type, without_values

NPZ = ".npz"
KIND = ".npz archive"


def open_npz(path: Path) -> dict[str, Tensor]:
    """Every array of an archive by its path in Flax.

    Raises:
        ValueError: If the file is damaged, or two arrays get the same path.
    """
    with reading(path, KIND), zipfile.ZipFile(path) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        members = [info for info in archive.infolist() if not info.is_dir()]
        if members and not any(info.filename.endswith(".npy") for info in members):
            raise ValueError("it is a zip archive, but none of NumPy's")
        names = [info.filename.removesuffix(".npy") for info in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"it has two arrays named {twice!r}")
        by_name = dict(zip(names, members, strict=True))
        return flax_named(
            {name: _tensor(path, archive, by_name[name]) for name in keys_in_order(by_name)}
        )


def _tensor(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    name = info.filename
    if not name.endswith(".npy"):
        return without_values((), "", origin=name, reason="no array")
    if info.file_size > MAX_COMPRESSION * info.compress_size + 1000:
        raise ValueError(f"{name} claims {info.file_size} bytes, more than its data can hold")
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        start = member.tell()
    if reason := reason_of_type(dtype):
        if dtype.kind == "V":
            reason += ": NumPy's files do not say which numbers these bytes are"
        return without_values(shape, dtype.name, origin=name, reason=reason)
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{name} of shape {shape} and type {dtype} has {info.file_size} bytes")
    read = partial(_read, path, name, dtype.str, shape, start, "F" if fortran else "C")
    return Tensor(shape, dtype.name, read, name)


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version in ((2, 0), (3, 0)):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"it has an array in version {version} of the format; expected 1, 2 or 3")


def _read(
    path: Path, name: str, dtype: str, shape: tuple[int, ...], start: int, order: Any
) -> np.ndarray:
    with reading(path, KIND), zipfile.ZipFile(path) as archive, archive.open(name) as member:
        member.read(start)
        return np.frombuffer(member.read(), dtype).reshape(shape, order=order)
