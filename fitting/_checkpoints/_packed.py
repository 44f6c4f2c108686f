"""Weights that are stored as narrow numbers and scales: their values, and how coarse these are.

Each class reads the tensors that it is made of when it is asked, and can be pickled as they can.
``steps`` is, for each value, the width of the interval of weights that are stored as it: uniform in
it, they have the variance step^2 / 12 about the value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Read = Callable[[], np.ndarray]

# The numbers of MXFP4, E2M1, by their code.
POSITIVE_FP4 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], np.float32)
FP4 = np.concatenate([POSITIVE_FP4, -POSITIVE_FP4])
# E8M0: 2^(code - 127), and a code for NaN.
E8M0_BIAS, E8M0_NAN = 127, 255
# AWQ's kernels take the eight numbers of 32 bits in this order: column j is in bits 4 AWQ[j] on.
AWQ = (0, 4, 1, 5, 2, 6, 3, 7)
BITS = 4


@dataclass(frozen=True)
class ScaledFloats:
    """Narrow floats ``[..., rows, cols]`` times a scale for each block of a grid, each row or all.

    DeepSeek's block-scaled FP8 has 128 x 128 blocks, the last ones cut off.
    """

    read_codes: Read
    read_scales: Read
    block: tuple[int, int]

    def values(self) -> Floats:
        """The weights."""
        codes = self.read_codes()
        return self._scaled(codes.astype(np.float32))

    def steps(self) -> Floats:
        """The width of each weight's interval."""
        codes = self.read_codes()
        widths = code_steps(np.arange(256, dtype=np.uint8).view(codes.dtype).astype(np.float64))
        return self._scaled(widths[codes.view(np.uint8)])

    def _scaled(self, numbers: Floats) -> Floats:
        scales = self.read_scales().astype(np.float32)
        scales = scales.reshape(*scales.shape[:-2], *(1, 1, *scales.shape)[-2:])
        rows, cols = self.block
        for i in range(scales.shape[-2]):
            for_columns = np.repeat(scales[..., i : i + 1, :], cols, axis=-1)
            with np.errstate(over="ignore", invalid="ignore"):
                numbers[..., i * rows : (i + 1) * rows, :] *= for_columns[..., : numbers.shape[-1]]
        return numbers


@dataclass(frozen=True)
class MXFP4:
    """Blocks ``[..., rows, groups, 16]`` of 32 four-bit floats, low half first, and E8M0 scales.

    As gpt-oss stores its experts: [experts, out, groups, 16] for a weight [experts, in, out].
    """

    read_blocks: Read
    read_scales: Read

    def values(self) -> Floats:
        """The weights."""
        return self._scaled(FP4)

    def steps(self) -> Floats:
        """The width of each weight's interval."""
        return np.abs(self._scaled(code_steps(FP4.astype(np.float64))))

    def _scaled(self, table: Floats) -> Floats:
        blocks, scales = self.read_blocks(), self.read_scales().view(np.uint8)
        numbers = np.empty((*blocks.shape[:-1], blocks.shape[-1], 2), np.float32)
        numbers[..., 0], numbers[..., 1] = table[blocks & 15], table[blocks >> 4]
        factors = np.ldexp(1.0, scales.astype(np.int32) - E8M0_BIAS)
        factors = np.where(scales == E8M0_NAN, np.nan, factors).astype(np.float32)
        with np.errstate(over="ignore"):
            numbers *= factors[..., None, None]
        return numbers.reshape(*blocks.shape[:-2], -1).swapaxes(-1, -2)


@dataclass(frozen=True)
class PackedIntegers:
    """AWQ's and GPTQ's ``[in, out]`` of four bits, as [out, in]: (code - zero) * scale of a group.

    Attributes:
        read_codes: int32 [in, out / 8] of AWQ, [in / 8, out] of GPTQ.
        read_zeros: int32 [groups, out / 8].
        read_scales: [groups, out].
        read_groups: The group of each input, where they are not in order.
        awq: Whether it is AWQ's.
        zero_offset: What is added to a stored zero, modulo 16: 1 in GPTQ's first format.
    """

    read_codes: Read
    read_zeros: Read
    read_scales: Read
    read_groups: Read | None
    awq: bool
    zero_offset: int

    def values(self) -> Floats:
        """The weights."""
        packed = self.read_codes()
        codes = _unpack(packed, AWQ) if self.awq else _unpack(packed.T).T
        order = AWQ if self.awq else tuple(range(8))
        zeros = (_unpack(self.read_zeros(), order) + self.zero_offset) & 15
        groups = self._groups(len(codes))
        numbers = codes.astype(np.float32)
        numbers -= zeros[groups]
        numbers *= self.read_scales().astype(np.float32)[groups]
        return numbers.T

    def steps(self) -> Floats:
        """The width of each weight's interval."""
        num_inputs = self.read_codes().shape[0] * (1 if self.awq else 8)
        scales = np.abs(self.read_scales().astype(np.float32))
        return scales[self._groups(num_inputs)].T

    def _groups(self, num_inputs: int) -> NDArray[np.int64]:
        if self.read_groups is not None:
            return self.read_groups().astype(np.int64)
        num_groups = len(self.read_scales())
        return np.arange(num_inputs) // -(-num_inputs // num_groups)


def _unpack(packed: np.ndarray, order: tuple[int, ...] = tuple(range(8))) -> NDArray[np.uint8]:
    """Four-bit numbers ``[rows, 8 cols]`` of int32 ``[rows, cols]``, lowest bits first in order."""
    shifts = BITS * np.array(order, np.uint32)
    numbers = (np.ascontiguousarray(packed).view(np.uint32)[..., None] >> shifts) & np.uint32(15)
    return numbers.astype(np.uint8).reshape(len(packed), -1)


def code_steps(values: NDArray[np.float64]) -> Floats:
    """For the value of each code the width that gives step^2 / 12 as the variance about it.

    What is rounded to a value lies between the middles to its neighbours, and the two gaps h differ
    where the exponent changes: uniform there, its mean square is (h1^3 + h2^3) / (3 (h1 + h2)).
    """
    finite = np.unique(values[np.isfinite(values)])
    gaps = np.diff(finite) / 2
    below, above = np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]]
    widths = np.sqrt(4 * (below**3 + above**3) / (below + above))
    places = np.searchsorted(finite, values)
    steps = np.where(np.isfinite(values), widths[np.minimum(places, finite.size - 1)], 0.0)
    return steps.astype(np.float32)


def noise_edge(steps: np.ndarray) -> float:
    r"""Where the eigenvalues of the rounding errors of a matrix end.

    .. math:: \Bigl(\max_i \sqrt{\textstyle\sum_j \Delta_{ij}^2/12}
        + \max_j \sqrt{\textstyle\sum_i \Delta_{ij}^2/12}\Bigr)^2

    It is the Marchenko-Pastur edge where all steps are alike, and above it where they are not.

    Args:
        steps: Of a matrix, [rows, cols].

    References:
        A. Bandeira and R. van Handel, 2016, Theorem 1.1 (independent entries of unequal variance).
    """
    of_rows = np.einsum("ij,ij->i", steps, steps, dtype=np.float64)
    of_cols = np.einsum("ij,ij->j", steps, steps, dtype=np.float64)
    return float((math.sqrt(of_rows.max()) + math.sqrt(of_cols.max())) ** 2 / 12)
