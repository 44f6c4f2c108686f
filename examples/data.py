"""Real images for the experiments, standardised as the papers' MiniAlexNet saw them."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_digits

SIDE = 28
NUM_CLASSES = 10


class DataError(Exception):
    """The data asked for cannot be had; the message says what to do."""


class Dataset(NamedTuple):
    """Images `[n, 28, 28, 3]` in float32, each with mean 0 and variance 1, and integer labels."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


Split = tuple[np.ndarray, np.ndarray]


def standardize(images: np.ndarray) -> np.ndarray:
    """Gives every image mean 0 and standard deviation 1, as TensorFlow's per-image standardisation.

    Args:
        images: Pixels `[n, height, width, channels]` of any scale.

    Returns:
        float32 images. A deviation below `1/sqrt(pixels)` of the range [0, 1] counts as that, so an
        empty image gives zeros.
    """
    axes = (1, 2, 3)
    mean = images.mean(axes, keepdims=True)
    floor = 1 / np.sqrt(np.prod(images.shape[1:]))
    return ((images - mean) / np.maximum(images.std(axes, keepdims=True), floor)).astype(np.float32)


def _digits(folder: Path) -> tuple[Split, Split]:
    """Scikit-learn's 1,797 scanned digits of 8 x 8, enlarged; needs no folder."""
    bunch = load_digits()
    pixels = bunch.images.astype(np.float32) / 16
    enlarged = jax.image.resize(pixels, (len(pixels), SIDE, SIDE), "bilinear")
    images = np.repeat(np.asarray(enlarged)[..., None], 3, axis=-1)
    # 1,536 = 6 x 256: no batch size of the demo leaves an image out of an epoch.
    return (images[:1536], bunch.target[:1536]), (images[1536:], bunch.target[1536:])


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"no file {path}: --data-dir must name the folder that holds {path.parent.name}/"
        ) from None
    except (EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again") from error


def read_cifar10(path: Path) -> Split:
    """The images of one file of CIFAR-10's binary layout, as bytes `[n, 32, 32, 3]`, and labels."""
    record = 1 + 3 * 32 * 32
    content = np.frombuffer(_read(path), np.uint8)
    if content.size == 0 or content.size % record:
        raise DataError(
            f"{path} has {content.size} bytes, which is no multiple of {record} (a label and"
            " 3 x 32 x 32 pixels): fetch it again in the binary layout"
        )
    records = content.reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), records[:, 0]


def _cifar10_file(path: Path) -> Split:
    images, labels = read_cifar10(path)
    crop = slice(2, 2 + SIDE)
    return images[:, crop, crop], labels


def _cifar10(folder: Path) -> tuple[Split, Split]:
    """CIFAR-10 in its binary layout, cut to the central 28 x 28."""
    folder = folder / "cifar-10-batches-bin"
    parts = [_cifar10_file(folder / f"data_batch_{i}.bin") for i in range(1, 6)]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (images, labels), _cifar10_file(folder / "test_batch.bin")


def _idx(path: Path) -> np.ndarray:
    content = _read(path)
    rank = content[3] if len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank], ">i4")
    pixels = np.frombuffer(content, np.uint8, offset=min(4 + 4 * rank, len(content)))
    if content[:3] != b"\0\0\x08" or pixels.size != np.prod(shape, dtype=int):
        raise DataError(f"{path} is not a complete idx file of bytes: fetch it again")
    return pixels.reshape(shape)


def _mnist(folder: Path) -> tuple[Split, Split]:
    """MNIST from its idx files, its grey in all three channels."""

    def split(name: str) -> Split:
        images = _idx(folder / "mnist" / f"{name}-images-idx3-ubyte.gz")
        labels = _idx(folder / "mnist" / f"{name}-labels-idx1-ubyte.gz")
        return np.repeat(images[..., None], 3, axis=-1), labels

    return split("train"), split("t10k")


_READERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "mnist": _mnist,
}
SIZES = {"digits": (1536, 261), "cifar10": (50_000, 10_000), "mnist": (60_000, 10_000)}
NEEDS_FOLDER = ("cifar10", "mnist")


def _take(split: Split, size: int | None, what: str) -> Split:
    images, labels = split
    size = len(images) if size is None else size
    if not 0 < size <= len(images):
        raise DataError(f"{size} {what} images asked for; there are {len(images)}")
    scaled = images[:size].astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    return standardize(scaled), labels[:size].astype(np.int32)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """Reads a data set; the same call always gives the same images in the same order.

    Args:
        name: `"digits"` (comes with scikit-learn), `"cifar10"` or `"mnist"`.
        data_dir: The folder that holds `cifar-10-batches-bin/` or `mnist/`.
        train_size: How many training images, from the first; all by default.
        test_size: How many test images, from the first; all by default.

    Returns:
        The images, standardised one by one, and their labels.

    Raises:
        DataError: The name is unknown, or the files are missing, cut short or too few.
    """
    if name not in _READERS:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(_READERS)}")
    if name in NEEDS_FOLDER and data_dir is None:
        raise DataError(f"{name} is read from a folder: give it with --data-dir")
    train, test = _READERS[name](Path(data_dir or "."))
    return Dataset(*_take(train, train_size, "training"), *_take(test, test_size, "test"))
