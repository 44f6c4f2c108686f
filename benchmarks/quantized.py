"""Does the error of alpha cover the exponent of a known weight after its quantization?

    python -m benchmarks.quantized [--draws 300]

Plants power laws in the whole spectrum of a matrix, or in its upper part above a body, stores the
matrix in GGUF's Q8_0 and in four bits of 32 values a scale (its Q4_0, and MXFP4), evaluates the
files, and prints how often alpha +- 1.96 sigma holds the exponent, of the weights as they were too.
"""

import argparse
import math
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

import fitting

SHAPES = ((256, 256), (768, 384))
ALPHAS = (2.2, 3.0, 4.0)
SHARES = (1.0, 0.4)
FP4 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])

Array = NDArray[np.float64]


def planted(rng: np.random.Generator, shape: tuple[int, int], alpha: float, share: float) -> Array:
    """A matrix whose largest eigenvalues follow a power law from 1 on."""
    rows, cols = shape
    size = round(share * cols)
    eigenvalues = np.r_[1 + rng.pareto(alpha - 1, size), rng.uniform(0.02, 1, cols - size)]
    left = np.linalg.qr(rng.normal(size=(rows, cols)))[0]
    right = np.linalg.qr(rng.normal(size=(cols, cols)))[0]
    matrix: Array = (left * np.sqrt(eigenvalues)) @ right
    return matrix


def as_is(matrix: Array, folder: Path) -> Path:
    """A file of the weights themselves."""
    save_file({"fc.weight": matrix.astype(np.float32)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def q8_0(matrix: Array, folder: Path) -> Path:
    """A GGUF file of 32 bytes a scale."""
    blocks = matrix.reshape(-1, 32)
    scales = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    codes = np.round(blocks / scales.astype(float)).astype(np.int8)
    return _gguf(np.hstack([scales.view(np.uint8), codes.view(np.uint8)]), 8, matrix, folder)


def q4_0(matrix: Array, folder: Path) -> Path:
    """A GGUF file of 32 half bytes a scale."""
    blocks = matrix.reshape(-1, 32)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scales = (largest / -8).astype(np.float16)
    codes = np.clip(np.round(blocks / scales.astype(float)) + 8, 0, 15).astype(np.uint8)
    packed = codes[:, :16] | codes[:, 16:] << 4
    return _gguf(np.hstack([scales.view(np.uint8), packed]), 2, matrix, folder)


def _gguf(blocks: NDArray[np.uint8], number: int, matrix: Array, folder: Path) -> Path:
    name = b"fc.weight"
    head = struct.pack("<4sIQQQ", b"GGUF", 3, 1, 0, len(name)) + name
    head += struct.pack("<IQQIQ", 2, *matrix.shape[::-1], number, 0)
    path = folder / "a.gguf"
    path.write_bytes(head + bytes(-len(head) % 32) + blocks.tobytes())
    return path


def mxfp4(matrix: Array, folder: Path) -> Path:
    """A safetensors file of 32 four-bit floats a power of two."""
    blocks = matrix.reshape(1, matrix.shape[0], -1, 32)
    exponents = np.floor(np.log2(np.abs(blocks).max(-1))) - 2
    scaled = blocks / 2.0 ** exponents[..., None]
    codes = np.abs(np.abs(scaled)[..., None] - FP4).argmin(-1) + 8 * (scaled < 0)
    packed = (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8)
    scales = (exponents + 127).astype(np.uint8)
    save_file(
        {"m.experts.up_proj_blocks": packed, "m.experts.up_proj_scales": scales},
        folder / "a.safetensors",
    )
    return folder / "a.safetensors"


FORMATS: dict[str, Callable[[Array, Path], Path]] = {
    "float32": as_is, "Q8_0": q8_0, "Q4_0": q4_0, "MXFP4": mxfp4,
}  # fmt: skip


def main() -> None:
    """Prints a line for each kind of matrix, and the shares over all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=300, help="for each kind of matrix")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    held: dict[str, list[bool]] = {name: [] for name in FORMATS}
    unfitted = dict.fromkeys(FORMATS, 0)
    print(f"{'shape':10} alpha share", *(f"{name:>24}" for name in FORMATS))
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            for alpha in ALPHAS:
                for share in SHARES:
                    found: dict[str, list[tuple[bool, float, float]]] = {n: [] for n in FORMATS}
                    for _ in range(options.draws if shape == SHAPES[0] else options.draws // 4):
                        matrix = planted(rng, shape, alpha, share)
                        for name, store in FORMATS.items():
                            path = store(matrix, Path(folder))
                            row = fitting.evaluate(path, progress=False).layers.loc[0]
                            if not row["valid"]:
                                unfitted[name] += 1
                                continue
                            inside = abs(row["alpha"] - alpha) < 1.96 * row["sigma"]
                            found[name].append((bool(inside), row["alpha"], row["num_tail"]))
                            path.unlink()
                    cells = []
                    for name, numbers in found.items():
                        held[name] += [inside for inside, _, _ in numbers]
                        means = np.mean(numbers, axis=0) if numbers else [math.nan] * 3
                        cells.append(f"{means[0]:8.1%} {means[1]:6.2f} of {means[2]:5.0f}")
                    size = f"{shape[0]} x {shape[1]}"
                    print(
                        f"{size:10} {alpha:5} {share:5}", *(f"{c:>24}" for c in cells), flush=True
                    )
    print("\nalpha within its 95 % interval, mean alpha and size of the tail; over all:")
    for name, inside in held.items():
        print(f"{name:8} {np.mean(inside):.1%} of {len(inside)} fits, {unfitted[name]} without one")


if __name__ == "__main__":
    main()
