"""CIFAR-10 as the experiments see it, packed without loss into two files of 41 MB.

What is left of a pixel after its neighbours and the other colours have predicted it needs 4.5 bits,
and Huffman's code is within 1 % of that: half of what gzip needs for the files as they come.
"""

import zlib
from pathlib import Path

import numpy as np

NUM_PARTS = 2
NAME = "cifar10-28x28-part{}.npz"

Split = tuple[np.ndarray, np.ndarray]


def _predicted(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The median of left, above and left + above - corner: JPEG-LS's prediction of a pixel."""
    return np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))


def pack(images: np.ndarray) -> bytes:
    """Compresses images of bytes `[n, height, width, 3]`; `unpack` gives them back to the bit."""
    red, green, blue = np.moveaxis(images, -1, 0)
    planes = np.stack([green, red - green, blue - green])
    padded = np.zeros((*planes.shape[:2], planes.shape[2] + 1, planes.shape[3] + 1), np.int16)
    padded[:, :, 1:, 1:] = planes
    predicted = _predicted(padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1])
    rest = planes - predicted.astype(np.uint8)
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(rest.tobytes()) + packer.flush()


def unpack(packed: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Gives the images of `pack`, of a shape `[n, height, width, 3]`."""
    num, height, width, _ = shape
    rest = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(3, num, height, width)
    # Rows and columns first: each step works on all images at once, and they lie together.
    rest = np.ascontiguousarray(rest.transpose(2, 3, 0, 1)).astype(np.int16)
    padded = np.zeros((height + 1, width + 1, 3, num), np.int16)
    for row in range(height):
        for column in range(width):
            left, above = padded[row + 1, column], padded[row, column + 1]
            pixel = rest[row, column] + _predicted(left, above, padded[row, column])
            padded[row + 1, column + 1] = pixel & 255
    green, red, blue = padded[1:, 1:].astype(np.uint8).transpose(2, 3, 0, 1)
    # In memory the colours one by one, as in CIFAR-10's own files: the order in which an image's
    # pixels lie decides the last bit of their mean.
    planes = np.stack([red + green, green, blue + green], axis=1)
    return np.ascontiguousarray(planes).transpose(0, 2, 3, 1)


def write(train: Split, test: Split, folder: Path) -> list[Path]:
    """Writes images `[n, 28, 28, 3]` and labels of both sets in parts, and gives the paths."""
    # To read the parts takes nothing of fitting, which a borrowed machine may lack.
    from fitting._whole_file import written_whole

    images, labels = (np.concatenate(column) for column in zip(train, test, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    shares = (np.array_split(each, NUM_PARTS) for each in (images, labels))
    for number, (some, their_labels) in enumerate(zip(*shares, strict=True), start=1):
        path = folder / NAME.format(number)
        with written_whole(path) as unfinished, unfinished.open("wb") as file:
            np.savez(
                file,
                packed=np.frombuffer(pack(some), np.uint8),
                shape=np.array(some.shape),
                labels=their_labels.astype(np.uint8),
                num_train=np.array(len(train[0])),
            )
        paths.append(path)
    return paths


def are_in(folder: Path) -> bool:
    """Whether all parts are there."""
    return all((folder / NAME.format(number)).exists() for number in range(1, NUM_PARTS + 1))


def read(folder: Path) -> tuple[Split, Split]:
    """Gives the training and the test set of `write`.

    Raises:
        ValueError, KeyError, OSError, zlib.error: A part is damaged.
    """
    images, labels = [], []
    for number in range(1, NUM_PARTS + 1):
        with (folder / NAME.format(number)).open("rb") as file, np.load(file) as part:
            images.append(unpack(part["packed"].tobytes(), tuple(part["shape"])))
            labels.append(part["labels"])
            num_train = int(part["num_train"])
    several, their_labels = np.concatenate(images), np.concatenate(labels)
    return (
        (several[:num_train], their_labels[:num_train]),
        (several[num_train:], their_labels[num_train:]),
    )
