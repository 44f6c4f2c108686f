"""Data sets: what is read, scaled and split, and what missing or damaged files get."""

import gzip
import shutil
import tarfile

import numpy as np
import pytest

from examples.training import data


def test_digits_are_real_standardized_and_always_the_same():
    first, second = data.load("digits"), data.load("digits")
    assert first.train_images.shape == (1536, 28, 28, 3)
    assert (len(first.train_images), len(first.test_images)) == data.SIZES["digits"]
    assert first.train_labels[:10].tolist() == list(range(10))
    np.testing.assert_allclose(first.train_images.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(first.test_images.std((1, 2, 3)), 1, atol=1e-5)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_standardize_gives_zeros_for_an_empty_image_and_divides_faint_ones_by_the_floor():
    faint = np.zeros((2, 28, 28, 3))
    faint[1, :14] = 1e-3
    empty, scaled = data.standardize(faint)
    np.testing.assert_array_equal(empty, 0)
    np.testing.assert_allclose(scaled[0, 0, 0], 5e-4 * np.sqrt(2352), rtol=1e-6)


def _write_cifar10(folder, num_images=2):
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        records = np.zeros((num_images, 3073), np.uint8)
        records[:, 0] = number
        planes = records[:, 1:].reshape(num_images, 3, 32, 32)
        planes[:, 0], planes[:, 1, 5] = 100, 200
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def test_cifar10_reads_planes_and_crops_the_centre(tmp_path):
    _write_cifar10(tmp_path)
    images, labels, _, test_labels = data.load("cifar10", tmp_path)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert test_labels.tolist() == [5, 5]
    assert np.ptp(images[0, ..., 0]) == 0
    # Row 5 of the picture is row 3 of the crop.
    assert np.unique(images[0, ..., 1].argmax(0)).tolist() == [3]


def test_cifar10_on_the_real_files(data_dir):
    images, labels, test_images, _ = data.load("cifar10", data_dir, train_size=2000, test_size=500)
    assert images.shape == (2000, 28, 28, 3)
    assert test_images.shape == (500, 28, 28, 3)
    assert np.bincount(labels).min() > 150
    np.testing.assert_allclose(images.std((1, 2, 3)), 1, atol=1e-4)


def test_mnist_on_the_real_files(data_dir):
    images, labels, _, test_labels = data.load("mnist", data_dir, train_size=100, test_size=10)
    assert images.shape == (100, 28, 28, 3)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test_labels.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_fashion_mnist_is_read_from_its_own_folder(tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for part, first in (("train", 3), ("t10k", 7)):
        pixels = np.arange(2 * 784).reshape(2, 28, 28).astype(np.uint8)
        for kind, content in (("images-idx3", pixels), ("labels-idx1", np.uint8([first, 1]))):
            header = b"\0\0\x08" + bytes([content.ndim]) + np.array(content.shape, ">i4").tobytes()
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + content.tobytes()))
    found = data.load("fashion-mnist", tmp_path, scaling="unit")
    assert found.train_images[1, 0, 0].tolist() == [np.float32(784 % 256 / 255)] * 3
    assert (found.train_labels.tolist(), found.test_labels.tolist()) == ([3, 1], [7, 1])


def test_each_kind_of_missing_data_says_what_to_do(tmp_path):
    with pytest.raises(data.DataError, match="name is 'imagenet'; expected one of digits"):
        data.load("imagenet")
    with pytest.raises(data.DataError, match="--data-dir"):
        data.load("cifar10")
    with pytest.raises(data.DataError, match=r"data_batch_1\.bin is missing; expected a file"):
        data.load("cifar10", tmp_path)
    with pytest.raises(data.DataError, match="train_size is 2000; expected 1 to 1536"):
        data.load("digits", train_size=2000)


def test_damaged_files_are_named(tmp_path):
    folder = _write_cifar10(tmp_path)
    (folder / "data_batch_3.bin").write_bytes(bytes(3073 + 7))
    with pytest.raises(data.DataError, match=r"data_batch_3\.bin is 3080 bytes"):
        data.load("cifar10", tmp_path)

    mnist = tmp_path / "mnist"
    mnist.mkdir()
    path = mnist / "train-images-idx3-ubyte.gz"
    whole = gzip.compress(b"\0\0\x08\3" + np.array([1, 28, 28], ">i4").tobytes() + bytes(784))
    for broken in (whole[:-12], gzip.compress(gzip.decompress(whole)[:-1]), gzip.compress(b"")):
        path.write_bytes(broken)
        with pytest.raises(data.DataError, match="train-images"):
            data.load("mnist", tmp_path)
    path.write_bytes(b"not a gzip file")
    with pytest.raises(data.DataError, match="fetch it again"):
        data.load("mnist", tmp_path)


def test_validation_images_are_those_after_the_training_images():
    whole = data.load("digits")
    part = data.load("digits", train_size=1000, validation_size=200)
    np.testing.assert_array_equal(part.train_images, whole.train_images[:1000])
    np.testing.assert_array_equal(part.test_images, whole.train_images[1000:1200])
    np.testing.assert_array_equal(part.test_labels, whole.train_labels[1000:1200])
    assert len(data.load("digits", validation_size=36).train_images) == 1500
    with pytest.raises(data.DataError, match="train_size is 1500; expected 1 to 1499"):
        data.load("digits", train_size=1500, validation_size=37)


def test_unit_scaling_keeps_the_pixels_between_0_and_1():
    images = data.load("digits", scaling="unit").train_images
    assert (images.min(), images.max(), images.dtype) == (0, 1, np.float32)
    with pytest.raises(data.DataError, match="scaling is 'none'; expected one of standardized"):
        data.load("digits", scaling="none")


def _archive(folder):
    _write_cifar10(folder)
    archive = folder / data.CIFAR10_ARCHIVE
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder / "cifar-10-batches-bin", "cifar-10-batches-bin")
    return archive


def test_cifar10_is_read_from_its_archive(tmp_path):
    _archive(tmp_path)
    unpacked = data.load("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    for one, other in zip(data.load("cifar10", tmp_path), unpacked, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_truncated_archive_is_named(tmp_path):
    archive = _archive(tmp_path)
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    whole = archive.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:10], b"no archive"):
        archive.write_bytes(part)
        with pytest.raises(data.DataError, match=r"cifar-10-binary\.tar\.gz is damaged"):
            data.load("cifar10", tmp_path)
