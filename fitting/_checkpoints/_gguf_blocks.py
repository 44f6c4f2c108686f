"""The quantized blocks of GGUF: how many values they hold, and what these are.

A block is some bytes: scales, as float16 or packed into six bits, and a code for each value. They
are computed in float32 and in the order of llama.cpp's own, so that the last bit agrees.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Codes, scale and offset of each value: value = scale * code - offset.
Parts = tuple[Floats, Floats, Floats | None]


class Blocks(NamedTuple):
    """A type of blocks.

    Attributes:
        name: As llama.cpp calls it.
        num_values: In a block.
        num_bytes: Of a block.
        parts: Codes, scales and offsets of blocks ``[num_blocks, num_bytes]``, of shapes that
            broadcast to that of the codes.
    """

    name: str
    num_values: int
    num_bytes: int
    parts: Callable[[Bytes], Parts]

    def values(self, blocks: Bytes) -> Floats:
        """The weights ``[num_blocks, num_values]``."""
        codes, scales, offsets = self.parts(blocks)
        values = scales * codes
        if offsets is not None:
            values -= offsets
        return values.reshape(len(blocks), self.num_values)

    def steps(self, blocks: Bytes) -> Floats:
        """The width of the interval of weights that each value stands for."""
        codes, scales, _ = self.parts(blocks)
        steps: Floats = np.broadcast_to(np.abs(scales), codes.shape)
        return steps.reshape(len(blocks), self.num_values)


def _half(two_bytes: Bytes) -> Floats:
    return np.ascontiguousarray(two_bytes).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """[blocks, groups, 2, n] of [blocks, groups, n] bytes: all their low halves, then the high."""
    return np.stack([packed & 15, packed >> 4], axis=-2)


def _bits(packed: Bytes) -> Bytes:
    """[blocks, 32] single bits of [blocks, 4], lowest first."""
    return np.unpackbits(packed, axis=-1, bitorder="little")


def _q4_0(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 2:]).reshape(len(blocks), 32)
    return codes.astype(np.float32) - 8, _half(blocks[:, :2]), None


def _q4_1(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 4:]).reshape(len(blocks), 32)
    return codes.astype(np.float32), _half(blocks[:, :2]), -_half(blocks[:, 2:4])


def _q5_0(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 6:]).reshape(len(blocks), 32) | (_bits(blocks[:, 2:6]) << 4)
    return codes.astype(np.float32) - 16, _half(blocks[:, :2]), None


def _q5_1(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 8:]).reshape(len(blocks), 32) | (_bits(blocks[:, 4:8]) << 4)
    return codes.astype(np.float32), _half(blocks[:, :2]), -_half(blocks[:, 2:4])


def _q8_0(blocks: Bytes) -> Parts:
    codes = np.ascontiguousarray(blocks[:, 2:]).view(np.int8)
    return codes.astype(np.float32), _half(blocks[:, :2]), None


def _six_bits(packed: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight offsets [blocks, 8] of six bits each, of [blocks, 12] bytes."""
    low, high, shared = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([low & 63, (shared & 15) | (low >> 6 << 4)], axis=1)
    offsets = np.concatenate([high & 63, (shared >> 4) | (high >> 6 << 4)], axis=1)
    return scales.astype(np.float32), offsets.astype(np.float32)


def _scales_and_offsets(blocks: Bytes) -> tuple[Floats, Floats]:
    scales, offsets = _six_bits(blocks[:, 4:16])
    of_scales, of_offsets = _half(blocks[:, :2]), _half(blocks[:, 2:4])
    return (of_scales * scales)[..., None], (of_offsets * offsets)[..., None]


def _q4_k(blocks: Bytes) -> Parts:
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return codes.astype(np.float32), *_scales_and_offsets(blocks)


def _q5_k(blocks: Bytes) -> Parts:
    fifth = blocks[:, 16:48, None] >> np.arange(8, dtype=np.uint8) & 1
    codes = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    codes |= fifth.swapaxes(1, 2) << 4
    return codes.astype(np.float32), *_scales_and_offsets(blocks)


def _q6_k(blocks: Bytes) -> Parts:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    pairs = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = pairs >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    codes = (low | (high << 4)).reshape(-1, 16, 16).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return codes, (_half(blocks[:, 208:]) * scales)[..., None], None


# By the number that ggml gives the type.
BLOCKS = {
    2: Blocks("Q4_0", 32, 18, _q4_0),
    3: Blocks("Q4_1", 32, 20, _q4_1),
    6: Blocks("Q5_0", 32, 22, _q5_0),
    7: Blocks("Q5_1", 32, 24, _q5_1),
    8: Blocks("Q8_0", 32, 34, _q8_0),
    12: Blocks("Q4_K", 256, 144, _q4_k),
    13: Blocks("Q5_K", 256, 176, _q5_k),
    14: Blocks("Q6_K", 256, 210, _q6_k),
}
