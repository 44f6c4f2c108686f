"""GGUF files, llama.cpp's: a header of settings and tensors, and these in quantized blocks."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import spectral_reg as sr

from ._errors import reading
from ._gguf_blocks import BLOCKS, Blocks
from ._naming import flax_named, natural_order
from ._safetensors_files import read_bytes, stored
from ._tensor import Tensor, merge, without_values

GGUF = ".gguf"
KIND = "GGUF file"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
# A header may not claim more than this of anything; the vocabularies of today have 300,000 words.
MAX_COUNT = 2**24
MAX_AXES = 4
# Types of settings by their number: fixed ones, a text and a list.
SETTINGS = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "?", "", "", "u8", "i8", "f8")
TEXT, LIST = 8, 9
# Of tensors, that are not in blocks.
PLAIN = {
    0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64",
    30: "bfloat16",
}  # fmt: skip
# Of blocks that are not read: bytes and values of a block, to know where a tensor ends.
UNREAD = {
    "Q8_1": (9, 36, 32), "Q2_K": (10, 84, 256), "Q3_K": (11, 110, 256), "Q8_K": (15, 292, 256),
    "IQ2_XXS": (16, 66, 256), "IQ2_XS": (17, 74, 256), "IQ3_XXS": (18, 98, 256),
    "IQ1_S": (19, 50, 256), "IQ4_NL": (20, 18, 32), "IQ3_S": (21, 110, 256), "IQ2_S": (22, 82, 256),
    "IQ4_XS": (23, 136, 256), "IQ1_M": (29, 56, 256), "TQ1_0": (34, 54, 256),
    "TQ2_0": (35, 66, 256), "MXFP4": (39, 17, 32),
}  # fmt: skip
BY_NUMBER = {number: name for name, (number, _, _) in UNREAD.items()}


def open_gguf(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its path in Flax: its names with slashes, its layout [in, out].

    Raises:
        ValueError: If the file is damaged, or of a version or byte order that is not read.
    """
    with reading(path, KIND):
        with path.open("rb") as file:
            count, settings = _read_start(file, path.stat().st_size)
            entries = [_read_entry(file) for _ in range(count)]
            step = settings.get(ALIGNMENT, 32)
            if not isinstance(step, int) or step < 1:
                raise ValueError(f"it says {ALIGNMENT} is {step!r}; expected a positive number")
            start = -(-file.tell() // step) * step
        entries.sort(key=lambda entry: natural_order(entry[0]))
        named = [_named(_tensor(path, *entry, start=start)) for entry in entries]
        return merge(pair for tensors in named for pair in tensors.items())


def _named(tensor: Tensor) -> dict[str, Tensor]:
    """The tensor by its path in Flax: PyTorch's rules, but for stacks, which are no convolution."""
    if tensor.axes is not None:
        return {tensor.origin.replace(".", "/"): tensor}
    return flax_named({tensor.origin: tensor})


def _read_start(file: BinaryIO, size: int) -> tuple[int, dict[str, Any]]:
    if file.read(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = _number(file, "u4")
    if version not in VERSIONS:
        other = " of the other byte order" if version.to_bytes(4, "big")[0] in VERSIONS else ""
        raise ValueError(f"it is of version {version}{other}; expected 2 or 3")
    num_tensors, num_settings = _count(file, size), _count(file, size)
    settings = {}
    for _ in range(num_settings):
        name = _text(file)
        settings[name] = _setting(file, _number(file, "u4"))
    return num_tensors, settings


def _read_entry(file: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape with the fastest axis last, number of its type, and place of a tensor."""
    name, ndim = _text(file), _number(file, "u4")
    if ndim > MAX_AXES:
        raise ValueError(f"{name!r} has {ndim} axes; expected up to {MAX_AXES}")
    shape = tuple(_number(file, "u8") for _ in range(ndim))[::-1]
    return name, shape, _number(file, "u4"), _number(file, "u8")


def _tensor(
    path: Path, name: str, shape: tuple[int, ...], number: int, place: int, *, start: int
) -> Tensor:
    offset, count = start + place, math.prod(shape)
    # Experts [experts, out, in]: three axes and no window.
    axes = sr.MatrixAxes(rows=-1, cols=-2) if len(shape) == 3 else None
    kind = {"token_embd.weight": "embedding"}.get(name, "experts" if axes else "")
    if number in PLAIN:
        dtype = PLAIN[number]
        _check_end(path, name, offset, count * np.dtype(_storage(dtype)).itemsize)
        return replace(stored(path, dtype, shape, offset, name), kind=kind, axes=axes)
    layout = BLOCKS.get(number)
    if layout is None:
        if number not in BY_NUMBER:
            raise ValueError(f"{name!r} is of the unknown type {number}")
        label = BY_NUMBER[number]
        reason = f"quantized to {label}, which is not read; expected {', '.join(_known())}"
        return without_values(shape, label, origin=name, reason=reason)
    if not shape or shape[-1] % layout.num_values:
        raise ValueError(f"{name!r} of shape {shape} has no whole blocks of {layout.num_values}")
    num_blocks = count // layout.num_values
    _check_end(path, name, offset, num_blocks * layout.num_bytes)
    return replace(_Stored(path, offset, shape, layout).tensor(name), kind=kind, axes=axes)


class _Stored:
    """A tensor in blocks, at its place in the file."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], layout: Blocks) -> None:
        self.path, self.offset, self.shape, self.layout = path, offset, shape, layout

    def tensor(self, name: str) -> Tensor:
        return Tensor(
            self.shape, "float32", self.values, name, quantization=self.layout.name,
            read_steps=self.steps, at=partial(self._at, name) if len(self.shape) > 2 else None,
        )  # fmt: skip

    def values(self) -> np.ndarray:
        return self.layout.values(self._blocks()).reshape(self.shape)

    def steps(self) -> np.ndarray:
        return self.layout.steps(self._blocks()).reshape(self.shape)

    def _at(self, name: str, place: int) -> Tensor:
        num_values = math.prod(self.shape[1:])
        offset = self.offset + place * num_values // self.layout.num_values * self.layout.num_bytes
        return _Stored(self.path, offset, self.shape[1:], self.layout).tensor(name)

    def _blocks(self) -> np.ndarray:
        shape = (math.prod(self.shape) // self.layout.num_values, self.layout.num_bytes)
        return read_bytes(self.path, "uint8", shape, self.offset)


def _known() -> list[str]:
    return [*PLAIN.values(), *(layout.name for layout in BLOCKS.values())]


def _storage(dtype: str) -> str:
    return "uint16" if dtype == "bfloat16" else dtype


def _check_end(path: Path, name: str, offset: int, num_bytes: int) -> None:
    if offset + num_bytes > path.stat().st_size:
        raise ValueError(f"it ends before its tensor {name!r} does")


def _number(file: BinaryIO, code: str) -> Any:
    dtype = np.dtype(f"<{code}" if code != "?" else code)
    data = file.read(dtype.itemsize)
    if len(data) < dtype.itemsize:
        raise ValueError("it ends within its header")
    return np.frombuffer(data, dtype)[0].item()


def _count(file: BinaryIO, size: int | None = None) -> int:
    count = int(_number(file, "u8"))
    if count > MAX_COUNT or (size is not None and count > size):
        raise ValueError(f"its header claims {count} of something")
    return count


def _text(file: BinaryIO) -> str:
    length = _count(file)
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it ends within its header")
    return data.decode("utf-8", errors="replace")


def _setting(file: BinaryIO, kind: int, *, inside: bool = False) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind == LIST:
        if inside:
            raise ValueError("it has lists of lists among its settings")
        of, length = _number(file, "u4"), _count(file)
        return [_setting(file, of, inside=True) for _ in range(length)]
    if kind >= len(SETTINGS):
        raise ValueError(f"it has a setting of the unknown type {kind}")
    return _number(file, SETTINGS[kind])
