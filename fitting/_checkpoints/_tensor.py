"""A tensor of a checkpoint, read when it is asked for."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import spectral_reg as sr


@dataclass(frozen=True)
class Tensor:
    """A tensor that has a shape and a type before its values are in memory.

    A tree of these has the structure, names and shapes of a tree of arrays.

    Attributes:
        shape: In Flax layout, where the source says or its names tell what the axes are: kernels
            [in, out], convolutions [*window, in / groups, out], transposed ones [*window, in,
            out / groups], embeddings [num, features], recurrent kernels [..., in, gates * hidden].
            Otherwise as in the file, such as PyTorch's ``weight_ih_l0`` [gates * hidden, in].
        dtype: Name of its type, such as ``"bfloat16"``; NumPy or ml_dtypes has it, or there is a
            ``reason``.
        read: Reads the values, in that layout. Picklable, so that another process can do it.
        origin: Its name in the file, where that differs from its path in the tree.
        reason: Why it is not to be measured, if that is known without its values.
        kind: Of the layer, where the source says: dense, conv, conv_transpose, bilinear, embedding,
            lstm, gru or norm. Empty where it is not known, as in a bare state dict.
        groups: Of a grouped convolution, where the source says.
        axes: Of its matrix, where the source says and its layout is none of these.
        stacked: Along which axes layers are stacked, where the source says.
        wrapped: Whether another layer makes the weight of this and more.
        identity: Equal for tensors that are one and the same under several names; None where the
            source does not say.
        quantization: How it is stored, where that is coarser than its values' type, such as "Q4_K".
        read_steps: Then reads, in the same layout, the width of the interval of weights that each
            value stands for; rounding has added a variance of step^2 / 12.
        read_product: Where it reads as a small matrix with the singular values of a low-rank
            product: reads that product, [in, out].
        at: Of three axes or more: gives the tensor at a place of the first axis, where nothing of
            the others need be read for it.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    origin: str = ""
    reason: str = ""
    kind: str = ""
    groups: int = 1
    axes: sr.MatrixAxes | None = None
    stacked: sr.Stacked | None = None
    wrapped: bool = False
    identity: Hashable = None
    quantization: str = ""
    read_steps: Callable[[], np.ndarray] | None = None
    read_product: Callable[[], np.ndarray] | None = None
    at: "Callable[[int], Tensor] | None" = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes that a value takes in memory."""
        return np.dtype(getattr(ml_dtypes, self.dtype, self.dtype)).itemsize


def in_memory(array: np.ndarray, *, origin: str = "", reason: str = "") -> Tensor:
    """A tensor whose values are there already."""
    if np.ma.is_masked(array):
        reason = reason or "some of its entries are masked, and have no value"
    reason = reason or reason_of_type(array.dtype)
    read = partial(np.asarray, array)
    at = partial(_array_at, array, origin) if array.ndim > 2 else None
    return Tensor(array.shape, array.dtype.name, read, origin, reason, at=at)


def places(make: Callable[..., Tensor], *tensors: Tensor) -> Callable[[int], Tensor] | None:
    """The ``at`` of ``make(*tensors)``, which makes of their places its own; None if one has none.

    Picklable, as ``make`` has to be.
    """
    if any(tensor.at is None for tensor in tensors):
        return None
    return partial(_made_at, make, tensors)


def without_values(shape: tuple[int, ...], dtype: str, *, origin: str, reason: str) -> Tensor:
    """A tensor that is listed, but that nothing can read."""
    return Tensor(shape, dtype, partial(_refuse, origin, reason), origin, reason)


def reason_of_type(dtype: np.dtype[Any]) -> str:
    """Why an array of this type is not to be measured; empty if it is one of numbers."""
    registered_by_ml_dtypes = dtype.isbuiltin == 2
    return "" if dtype.kind in "biufc" or registered_by_ml_dtypes else f"of type {dtype}"


def transposed(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The tensor with its axes in another order."""
    if axes == tuple(range(tensor.ndim)):
        return tensor
    shape = tuple(tensor.shape[axis] for axis in axes)
    at = None
    if axes[0] == 0:
        at = places(partial(transposed, axes=tuple(axis - 1 for axis in axes[1:])), tensor)
    return replace(_in_layout(tensor, shape, _read_transposed, axes), at=at)


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor with other axes over the same values."""
    return _in_layout(tensor, shape, _read_reshaped, shape)


def _in_layout(
    tensor: Tensor,
    shape: tuple[int, ...],
    laid_out: Callable[[Callable[[], np.ndarray], tuple[int, ...]], np.ndarray],
    how: tuple[int, ...],
) -> Tensor:
    steps = tensor.read_steps
    return replace(
        tensor,
        shape=shape,
        read=partial(laid_out, tensor.read, how),
        read_steps=steps and partial(laid_out, steps, how),
        at=None,
    )


def merge(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by path.

    Raises:
        ValueError: If two have the same.
    """
    merged: dict[str, Tensor] = {}
    for path, tensor in tensors:
        if path in merged:
            names = f"{merged[path].origin or path!r} and {tensor.origin or path!r}"
            raise ValueError(f"two tensors would both be named {path!r}: {names}; rename one")
        merged[path] = tensor
    return merged


def _array_at(array: np.ndarray, origin: str, place: int) -> Tensor:
    return in_memory(array[place], origin=origin)


def _made_at(make: Callable[..., Tensor], tensors: tuple[Tensor, ...], place: int) -> Tensor:
    return make(*(tensor.at(place) for tensor in tensors if tensor.at))


def _read_transposed(read: Callable[[], np.ndarray], axes: tuple[int, ...]) -> np.ndarray:
    return read().transpose(axes)


def _read_reshaped(read: Callable[[], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return read().reshape(shape)


def _refuse(origin: str, reason: str) -> np.ndarray:
    raise ValueError(f"{origin!r} cannot be read: {reason}")
