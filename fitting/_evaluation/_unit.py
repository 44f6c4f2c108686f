"""One weight of a model and the spectra of its matrices."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import spectral_reg as sr
from spectral_reg._axes import arrange

from .._checkpoints import Tensor, noise_edge
from .._random_matrices import find_traps
from ._eigenvalues import BATCH_BYTES, bytes_held, squared_singular_values, squares, to_float64
from ._overlap import change_beside_base

Floats = NDArray[np.float64]


class Split(NamedTuple):
    """Parts of a matrix, side by side.

    Attributes:
        parts: Their names, in order.
        axis: -1 where they divide the columns, -2 where they divide the rows.
        num_turns: How many times the order repeats: heads that hold one piece of each part.
        widths: Of the pieces of one turn; empty where they are equal.
    """

    parts: tuple[str, ...]
    axis: int = -1
    num_turns: int = 1
    widths: tuple[int, ...] = ()


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
        read_base: Where the tensor is a change: reads what it is the change of, in its layout.
        read_whole: Reads the change where the tensor is a small matrix with its singular values.
        place: What comes first in the index of its rows, which it shares a name with others for:
            the number of an expert of a list.
    """

    name: str
    kind: str
    tensor: Tensor
    axes: sr.MatrixAxes
    conv: str | sr.ConvOperator
    split: Split | None = None
    low_rank: tuple[int, int] | None = None
    read_base: Callable[[], np.ndarray] | None = None
    read_whole: Callable[[], np.ndarray] | None = None
    place: str = ""

    @property
    def key(self) -> str:
        """What no other unit of a model has."""
        return f"{self.name}[{self.place}]" if self.place else self.name

    @property
    def num_bytes(self) -> int:
        """About the memory that measuring it takes: the values, and what a matrix needs."""
        if self.low_rank:
            short = min(self.low_rank)
            return self.tensor.itemsize * short * sum(self.low_rank) + 16 * short * short
        values = np.broadcast_to(np.zeros((), np.bool_), self.tensor.shape)
        shape = arrange(self.name, values, self.axes)[0].shape
        if self.conv == "flatten":
            shape = (math.prod(shape[:-1]), shape[-1])
        stored = self.tensor.itemsize * values.size
        return stored + bytes_held((shape[-2], shape[-1]), math.prod(shape[:-2]))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues, and where they come from.

    Attributes:
        index: Place in the weight, such as ``"0,2"`` or ``"query"``.
        shape: Rows and columns of the matrix, or of each of those that are pooled.
        eigenvalues: Squared singular values, descending; NaN if an entry is not finite.
        squared_norms: Of each matrix whose eigenvalues are among them.
        noise_edge: Where the eigenvalues of the errors of quantization end; 0 where there are none.
        beside: What was measured beside the spectrum: of a change (:func:`change_beside_base`), and
            its traps.
    """

    index: str
    shape: tuple[int, int]
    eigenvalues: Floats
    squared_norms: Floats
    noise_edge: float = 0.0
    beside: dict[str, float] = field(default_factory=dict)


def spectra(unit: Unit, *, accelerator: bool = False, traps: bool = False) -> Iterator[Spectrum]:
    """Reads the weight and decomposes its matrices, in float64.

    Args:
        unit: The weight.
        accelerator: Whether large matrices may go to the accelerator that JAX has, if any.
        traps: Whether to look for correlation traps.
    """
    edges = _noise_edges(unit)
    parts, num_batch, num_window = _matrices(unit, unit.tensor.read())
    bases, wholes = {}, {}
    if unit.read_base:
        bases = dict(_matrices(unit, unit.read_base())[0])
    if unit.read_whole:
        wholes = {"": unit.read_whole()}
    operator = isinstance(unit.conv, sr.ConvOperator) and num_window > 0
    for part, matrices in parts:
        shape = unit.low_rank or matrices.shape[-2:]
        if operator:
            values = _operator_eigenvalues(matrices, unit.conv.size)  # type: ignore[union-attr]
        else:
            values = squared_singular_values(matrices, accelerator=accelerator)
        pooled = unit.conv == "pooled" or operator
        # Groups are pooled like a window.
        parts_of_one = num_window > 0 or unit.axes.groups > 1
        num_lead = num_batch if pooled and parts_of_one else values.ndim - 1
        values = values.reshape(*values.shape[:num_lead], -1, values.shape[-1])
        edge = edges.get(part, np.zeros(matrices.shape[:-2]))
        edge = edge.reshape(*edge.shape[:num_lead], -1).max(axis=-1)
        for place in np.ndindex(values.shape[:-2]):
            index = ",".join(filter(None, (unit.place, *map(str, place), part)))
            pooled_values = np.sort(values[place].ravel())[::-1]
            squared_norms = values[place].sum(axis=-1)
            beside: dict[str, float] = {}
            if part in bases:
                one = wholes.get(part, matrices), bases[part]
                beside = change_beside_base(*(_as_matrix(group, place) for group in one))
            if traps and not (operator or unit.low_rank) and np.isfinite(pooled_values).all():
                found = find_traps(_as_matrix(matrices, place))
                beside |= {"num_traps": found.num_traps, "trap_p_value": found.p_value}
            yield Spectrum(index, shape, pooled_values, squared_norms, float(edge[place]), beside)


def _matrices(unit: Unit, values: np.ndarray) -> tuple[Iterator[tuple[str, np.ndarray]], int, int]:
    """The parts of a weight, ``[*batch, groups, *window, rows, cols]``, and how many are which."""
    weight, num_batch, num_window = arrange(unit.name, values, unit.axes)
    rows, cols = weight.shape[-2:]
    operator = isinstance(unit.conv, sr.ConvOperator) and num_window > 0
    if not operator and (unit.conv == "flatten" or rows == 1):
        # A depthwise kernel has slices of one row, and those no spectrum.
        weight = weight.reshape(*weight.shape[: weight.ndim - 2 - num_window], -1, cols)
    return _parts(weight, unit.split), num_batch, num_window


def _as_matrix(matrices: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """One of the matrices, or those that are pooled one below the other."""
    one = matrices[place]
    return one.reshape(-1, one.shape[-1])


def _noise_edges(unit: Unit) -> dict[str, Floats]:
    """Of each part's matrices, where the noise of quantization ends; empty where there is none."""
    if unit.tensor.read_steps is None:
        return {}
    parts, _, _ = _matrices(unit, unit.tensor.read_steps())
    return {
        part: np.array(
            [noise_edge(steps) for steps in matrices.reshape(-1, *matrices.shape[-2:])]
        ).reshape(matrices.shape[:-2])
        for part, matrices in parts
    }


def _parts(weight: np.ndarray, split: Split | None) -> Iterator[tuple[str, np.ndarray]]:
    if split is None:
        yield "", weight
        return
    turned = weight if split.axis == -1 else weight.swapaxes(-1, -2)
    pieces = turned.reshape(*turned.shape[:-1], split.num_turns, -1)
    widths = split.widths or (pieces.shape[-1] // len(split.parts),) * len(split.parts)
    ends = itertools.accumulate(widths)
    for part, width, end in zip(split.parts, widths, ends, strict=True):
        matrices = pieces[..., end - width : end].reshape(*turned.shape[:-1], -1)
        yield part, matrices if split.axis == -1 else matrices.swapaxes(-1, -2)


def _operator_eigenvalues(kernel: np.ndarray, size: tuple[int, ...]) -> Floats:
    """Those of :func:`spectral_reg.conv_operator`, in float64 from singular values."""
    num_window = len(size)
    *lead, rows, cols = kernel.shape
    window = lead[len(lead) - num_window :]
    taps = to_float64(kernel).reshape(-1, math.prod(window), rows * cols)
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
    return squares(np.array(values).reshape(*lead[: len(lead) - num_window], -1))
