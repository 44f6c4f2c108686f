"""Real images for the experiments, standardized as the papers' MiniAlexNet saw them."""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_digits

from examples.training import packed

SIDE = 28
NUM_CLASSES = 10
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"


class DataError(Exception):
    """The data asked for cannot be had; the message says what to do."""


class Dataset(NamedTuple):
    """Images `[n, 28, 28, 3]` in float32, scaled, and integer labels."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


Split = tuple[np.ndarray, np.ndarray]


def standardize(images: np.ndarray) -> np.ndarray:
    """Gives every image mean 0 and standard deviation 1, as TensorFlow's per-image standardization.

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
            f"{path} is missing; expected a file; name the folder that holds {path.parent.name}/"
            " with --data-dir, or fetch it with --download"
        ) from None
    except (EOFError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); expected gzip; fetch it again") from error


def _from_archive(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as members:
            file = members.extractfile(name)
            return file.read() if file else b""
    except (KeyError, EOFError, OSError, tarfile.TarError) as error:
        raise DataError(
            f"{archive} is damaged ({error}); expected a tar archive with {name}; fetch it again"
        ) from error


def read_cifar10(path: Path) -> Split:
    """The images of one file of CIFAR-10's binary layout, as bytes `[n, 32, 32, 3]`, and labels.

    Where its folder was not unpacked, they come from the archive beside it.
    """
    archive = path.parent.with_name(CIFAR10_ARCHIVE)
    archived = not path.exists() and archive.exists()
    content = _from_archive(archive, f"{path.parent.name}/{path.name}") if archived else _read(path)
    record = 1 + 3 * 32 * 32
    if not content or len(content) % record:
        raise DataError(
            f"{path} is {len(content)} bytes long; expected a multiple of {record}, a label and"
            " 3 x 32 x 32 pixels; fetch it again in the binary layout"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), records[:, 0]


def _cifar10_file(path: Path) -> Split:
    images, labels = read_cifar10(path)
    crop = slice(2, 2 + SIDE)
    return images[:, crop, crop], labels


def _cifar10(folder: Path) -> tuple[Split, Split]:
    """CIFAR-10 cut to the central 28 x 28: from its binary layout, or from the packed parts."""
    binary = folder / "cifar-10-batches-bin"
    if packed.are_in(folder) and not binary.exists():
        try:
            return packed.read(folder)
        except (ValueError, KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(
                f"a part of {packed.NAME.format('*')} in {folder} is damaged ({error}); expected"
                " what `python -m examples.accelerator pack` wrote; pack it again"
            ) from error
    parts = [_cifar10_file(binary / f"data_batch_{i}.bin") for i in range(1, 6)]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (images, labels), _cifar10_file(binary / "test_batch.bin")


def _idx(path: Path) -> np.ndarray:
    content = _read(path)
    rank = content[3] if len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank], ">i4")
    pixels = np.frombuffer(content, np.uint8, offset=min(4 + 4 * rank, len(content)))
    if content[:3] != b"\0\0\x08" or pixels.size != np.prod(shape, dtype=int):
        raise DataError(f"{path} is incomplete; expected an idx file of bytes; fetch it again")
    return pixels.reshape(shape)


def _mnist(folder: Path, name: str = "mnist") -> tuple[Split, Split]:
    """MNIST, or what comes in the same idx files, its grey in all three channels."""

    def split(part: str) -> Split:
        images = _idx(folder / name / f"{part}-images-idx3-ubyte.gz")
        labels = _idx(folder / name / f"{part}-labels-idx1-ubyte.gz")
        return np.repeat(images[..., None], 3, axis=-1), labels

    return split("train"), split("t10k")


READERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "mnist": _mnist,
    "fashion-mnist": partial(_mnist, name="fashion-mnist"),
}
SIZES = {
    "digits": (1536, 261),
    "cifar10": (50_000, 10_000),
    "mnist": (60_000, 10_000),
    "fashion-mnist": (60_000, 10_000),
}
NEEDS_FOLDER = ("cifar10", "mnist", "fashion-mnist")


def _unit(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)


SCALINGS = {"standardized": standardize, "unit": _unit}


def _part(split: Split, part: slice, scaling: str) -> Split:
    images, labels = (array[part] for array in split)
    pixels = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    return SCALINGS[scaling](pixels), labels.astype(np.int32)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    validation_size: int = 0,
    scaling: str = "standardized",
) -> Dataset:
    """Reads a data set; the same call always gives the same images in the same order.

    Args:
        name: `"digits"` (comes with scikit-learn), `"cifar10"`, `"mnist"` or `"fashion-mnist"`.
        data_dir: The folder that holds `cifar-10-batches-bin/`, or the archive that it comes in, or
            the parts of `packed`; or `mnist/`, or `fashion-mnist/` (with Debian's package
            dataset-fashion-mnist, `/usr/share/datasets`).
        train_size: How many training images, from the first; by default all that are not for
            validation.
        test_size: How many test images, from the first; all by default.
        validation_size: If not 0, the test images given are this many of the training images, those
            that follow `train_size`.
        scaling: `"standardized"`, each image to mean 0 and variance 1, or `"unit"`, to [0, 1].

    Returns:
        The images and their labels.

    Raises:
        DataError: A name is unknown, or the files are missing, cut short or too few.
    """
    if name not in READERS:
        raise DataError(f"name is {name!r}; expected one of {', '.join(READERS)}")
    if scaling not in SCALINGS:
        raise DataError(f"scaling is {scaling!r}; expected one of {', '.join(SCALINGS)}")
    if name in NEEDS_FOLDER and data_dir is None:
        raise DataError(
            f"data_dir is None; expected the folder of {name}; give it with --data-dir, or fetch it"
            " with --download"
        )
    train, test = READERS[name](Path(data_dir or "."))
    train_size = len(train[0]) - validation_size if train_size is None else train_size
    test_size = len(test[0]) if test_size is None else test_size
    for what, size, most in (
        ("train_size", train_size, len(train[0]) - validation_size),
        ("test_size", test_size, len(test[0])),
    ):
        if not 0 < size <= most:
            beside = f" beside validation_size = {validation_size}" if validation_size else ""
            raise DataError(f"{what} is {size}; expected 1 to {most} for {name}{beside}")
    if validation_size:
        held_out = _part(train, slice(train_size, train_size + validation_size), scaling)
    else:
        held_out = _part(test, slice(test_size), scaling)
    return Dataset(*_part(train, slice(train_size), scaling), *held_out)
