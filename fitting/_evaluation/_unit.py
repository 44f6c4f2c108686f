"""One weight of a model and the spectra of its matrices."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import spectral_reg as sr
from spectral_reg._axes import arrange

from .._checkpoints import Tensor

Floats = NDArray[np.float64]

# Matrices that take less than this in float64 are decomposed in one call, with one copy of all.
BATCH_BYTES = 2**25
# Tall matrices that take more are reduced block by block, and never stand in memory as float64.
WHOLE_BYTES = 2**28


class Split(NamedTuple):
    """Equal parts of a matrix, side by side.

    Attributes:
        parts: Their names, in order.
        axis: -1 where they divide the columns, -2 where they divide the rows.
        num_heads: How many times the order repeats: heads that hold one piece of each part.
    """

    parts: tuple[str, ...]
    axis: int = -1
    num_heads: int = 1


@dataclass(frozen=True)
class Unit:
    """What is read, decomposed and measured in one go. Picklable.

    Attributes:
        name: The path that the report gives it.
        kind: Of the weight: dense, conv, qkv and so on.
        tensor: Where the values come from.
        axes: Which of its axes make the matrix.
        conv: What a convolution becomes.
        split: The parts that are measured one by one, if any.
        low_rank: The shape of the matrix where the tensor reads as a small one with the same
            nonzero singular values.
    """

    name: str
    kind: str
    tensor: Tensor
    axes: sr.MatrixAxes
    conv: str | sr.ConvOperator
    split: Split | None = None
    low_rank: tuple[int, int] | None = None

    @property
    def num_bytes(self) -> int:
        """About the memory that measuring it takes: the values, and a matrix in float64."""
        size = math.prod(self.tensor.shape)
        if self.low_rank:
            size = min(self.low_rank) * sum(self.low_rank)
        stored = size * np.dtype(np.float32).itemsize
        return stored + min(2 * stored, 4 * WHOLE_BYTES)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues, and where they come from.

    Attributes:
        index: Place in the weight, such as ``"0,2"`` or ``"query"``.
        shape: Rows and columns of the matrix, or of each of those that are pooled.
        eigenvalues: Squared singular values, descending; NaN if an entry is not finite.
        squared_norms: Of each matrix whose eigenvalues are among them.
    """

    index: str
    shape: tuple[int, int]
    eigenvalues: Floats
    squared_norms: Floats


def spectra(unit: Unit) -> Iterator[Spectrum]:
    """Reads the weight and decomposes its matrices, in float64."""
    weight, num_batch, num_window = arrange(unit.name, unit.tensor.read(), unit.axes)
    rows, cols = weight.shape[-2:]
    operator = isinstance(unit.conv, sr.ConvOperator) and num_window > 0
    if not operator and (unit.conv == "flatten" or rows == 1):
        # A depthwise kernel has slices of one row, and those no spectrum.
        weight = weight.reshape(*weight.shape[: weight.ndim - 2 - num_window], -1, cols)
    for part, matrices in _parts(weight, unit.split):
        shape = unit.low_rank or matrices.shape[-2:]
        if operator:
            values = _operator_eigenvalues(matrices, unit.conv.size)  # type: ignore[union-attr]
        else:
            values = _eigenvalues(matrices)
        pooled = unit.conv == "pooled" or operator
        # Groups are pooled like a window.
        parts_of_one = num_window > 0 or unit.axes.groups > 1
        num_lead = num_batch if pooled and parts_of_one else values.ndim - 1
        values = values.reshape(*values.shape[:num_lead], -1, values.shape[-1])
        for place in np.ndindex(values.shape[:-2]):
            index = ",".join([*map(str, place), *([part] if part else [])])
            pooled_values = np.sort(values[place].ravel())[::-1]
            yield Spectrum(index, shape, pooled_values, values[place].sum(axis=-1))


def _parts(weight: np.ndarray, split: Split | None) -> Iterator[tuple[str, np.ndarray]]:
    if split is None:
        yield "", weight
        return
    turned = weight if split.axis == -1 else weight.swapaxes(-1, -2)
    num_parts = len(split.parts)
    pieces = turned.reshape(*turned.shape[:-1], split.num_heads, num_parts, -1)
    for number, part in enumerate(split.parts):
        matrices = pieces[..., number, :].reshape(*turned.shape[:-1], -1)
        yield part, matrices if split.axis == -1 else matrices.swapaxes(-1, -2)


def _eigenvalues(matrices: np.ndarray) -> Floats:
    """Squared singular values of ``[..., rows, cols]``."""
    rows, cols = matrices.shape[-2:]
    if 8 * matrices.size <= BATCH_BYTES:
        W = _float64(matrices)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(W).all(axis=(-2, -1), keepdims=True))
        # LAPACK raises on NaN, for the whole batch.
        singular_values = np.linalg.svd(np.where(finite, W, 0.0), compute_uv=False)
        return _squares(np.where(finite[..., 0], singular_values, np.nan))
    flat = matrices.reshape(-1, rows, cols) if matrices.ndim > 2 else matrices[None]
    values = np.array([_large(matrix) for matrix in flat])
    return _squares(values.reshape(*matrices.shape[:-2], -1))


def _large(matrix: np.ndarray) -> Floats:
    """Singular values of a matrix, in little more memory than one copy of it in float64."""
    import scipy.linalg

    if not matrix.any():
        return np.zeros(min(matrix.shape))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    if 8 * tall.size > WHOLE_BYTES and tall.shape[0] >= 4 * tall.shape[1]:
        tall = _triangle(tall)
    # In LAPACK's own order, so that it may work in place.
    W = _float64(tall, order="F")
    if not np.isfinite(W).all():
        return np.full(W.shape[1], np.nan)
    return scipy.linalg.svdvals(W, overwrite_a=True, check_finite=False)


def _triangle(tall: np.ndarray) -> Floats:
    """R of the QR decomposition, a block of rows after the other; it has the singular values."""
    num_rows = 2 * tall.shape[1]
    R = np.empty((0, tall.shape[1]))
    for start in range(0, len(tall), num_rows):
        block = np.concatenate([R, _float64(tall[start : start + num_rows])])
        if not np.isfinite(block).all():
            return np.full((tall.shape[1],) * 2, np.nan)
        R = np.asarray(np.linalg.qr(block, mode="r"))
    return R


def _operator_eigenvalues(kernel: np.ndarray, size: tuple[int, ...]) -> Floats:
    """Those of :func:`spectral_reg.conv_operator`, in float64 from singular values."""
    num_window = len(size)
    *lead, rows, cols = kernel.shape
    window = lead[len(lead) - num_window :]
    taps = _float64(kernel).reshape(-1, math.prod(window), rows * cols)
    places = np.indices(window).reshape(num_window, 1, -1)
    # A real kernel has conjugate matrices at opposite frequencies: one of the two is enough.
    frequencies = np.indices((*size[:-1], size[-1] // 2 + 1)).reshape(num_window, -1, 1)
    twice = (frequencies[-1, :, 0] > 0) & (2 * frequencies[-1, :, 0] < size[-1])
    periods = np.reshape(size, (-1, 1, 1))
    waves = np.exp(-2j * np.pi * np.sum(frequencies * places % periods / periods, axis=0))
    step = max(1, BATCH_BYTES // (16 * rows * cols))
    values = []
    for one in taps:
        if not np.isfinite(one).all():
            values.append(np.full(math.prod(size) * min(rows, cols), np.nan))
            continue
        parts = []
        for start in range(0, len(waves), step):
            transfer = waves[start : start + step] @ one
            parts.append(np.linalg.svd(transfer.reshape(-1, rows, cols), compute_uv=False))
        half = np.concatenate(parts)
        values.append(np.concatenate([half.ravel(), half[twice].ravel()]))
    return _squares(np.array(values).reshape(*lead[: len(lead) - num_window], -1))


def _float64(matrix: np.ndarray, *, order: Literal["K", "F"] = "K") -> Floats:
    with np.errstate(invalid="ignore"):  # a signalling NaN is one like any other
        return matrix.astype(np.float64, order=order)


def _squares(singular_values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return singular_values**2
