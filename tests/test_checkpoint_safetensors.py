"""Safetensors files, sharded checkpoints and folders; .npz archives."""

import io
import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
from fitting._checkpoints import FORMATS, find_file, open_checkpoint

WEIGHT = RNG.standard_normal((6, 4)).astype(np.float32)


def raw_safetensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_values_are_exact_and_travel_to_other_processes(tmp_path):
    saved = {
        "fc.weight": WEIGHT,
        "brain.weight": WEIGHT.astype(ml_dtypes.bfloat16),
        "half.weight": WEIGHT.astype(np.float16),
        "conv.weight": RNG.standard_normal((5, 3, 2, 4)),
        "scalar": np.array(3.0),
        "empty": np.zeros((0, 3)),
        "mask": np.array([True, False]),
    }
    save_file(saved, tmp_path / "a.safetensors", metadata={"format": "pt"})
    tensors = open_checkpoint(tmp_path / "a.safetensors")
    assert {tensor.origin for tensor in tensors.values()} == set(saved)
    for name, tensor in tensors.items():
        values = pickle.loads(pickle.dumps(tensor)).read()
        expected = saved[tensor.origin]
        if name.endswith("kernel"):
            expected = expected.transpose(*range(2, expected.ndim), 1, 0)
        assert (values.shape, values.dtype.name) == (tensor.shape, tensor.dtype)
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values.astype(float), expected.astype(float))


EIGHT_BITS = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_eight_bit_floats_are_exact(tmp_path, name):
    values = np.arange(256, dtype=np.uint8).view(EIGHT_BITS[name]).reshape(16, 16)
    header = {"a": {"dtype": name, "shape": [16, 16], "data_offsets": [0, 256]}}
    path = raw_safetensors(tmp_path / "a.safetensors", header, values.tobytes())
    read = open_checkpoint(path)["a"].read()
    assert read.dtype == values.dtype
    assert read.tobytes() == values.tobytes()


def test_layers_come_in_the_order_of_their_numbers(tmp_path):
    names = [f"layers.{index}.weight" for index in (10, 2, 1)]
    save_file(dict.fromkeys(names, WEIGHT), tmp_path / "a.safetensors")
    assert list(open_checkpoint(tmp_path / "a.safetensors")) == [
        f"layers/{index}/kernel" for index in (1, 2, 10)
    ]


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234", "cannot lie"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678", "cannot lie"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12", "take 4 bytes"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"123456", "but 6 follow"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234", "shape"),
        ({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234", "F99"),
        ([], b"", "its header is a list"),
        ({}, b"", "holds no tensors"),
    ],
)
def test_damaged_headers(tmp_path, header, data, message):
    path = raw_safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises(ValueError, match=rf"a\.safetensors .*{message}"):
        open_checkpoint(path)


def test_headers_that_lie_about_their_length_or_name_a_tensor_twice(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(ValueError, match=rf"claims {2**62} bytes, but the file has 10"):
        open_checkpoint(path)
    text = b'{"a": {}, "a": {}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ValueError, match="two of 'a'"):
        open_checkpoint(path)


def test_packed_numbers_have_a_reason(tmp_path):
    header = {"fc.weight": {"dtype": "F4", "shape": [4, 4], "data_offsets": [0, 8]}}
    path = raw_safetensors(tmp_path / "a.safetensors", header, bytes(8))
    assert "quantized to F4" in open_checkpoint(path)["fc/kernel"].reason


def sharded(folder, **extra):
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    save_file({"a.weight": WEIGHT}, folder / first)
    save_file({"b.weight": 2 * WEIGHT}, folder / second)
    weight_map = {"b.weight": second, "a.weight": first} | extra
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_sharded_checkpoint_and_the_folder_that_holds_it(tmp_path):
    folder = sharded(tmp_path)
    (folder / "config.json").write_text("{}")
    for path in (folder, str(folder / "model.safetensors.index.json")):
        tensors = open_checkpoint(path)
        assert list(tensors) == ["b/kernel", "a/kernel"]
        np.testing.assert_array_equal(tensors["b/kernel"].read(), 2 * WEIGHT.T)


def test_a_sorted_index_has_the_order_of_its_numbers(tmp_path):
    names = sorted(f"layers.{index}.weight" for index in range(11))
    save_file(dict.fromkeys(names, WEIGHT), tmp_path / "a.safetensors")
    index = {"weight_map": dict.fromkeys(names, "a.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, WEIGHT))
    expected = [f"layers/{index}/kernel" for index in range(11)]
    assert list(open_checkpoint(tmp_path)) == expected
    assert list(open_checkpoint(tmp_path / "a.npz")) == expected


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ({"c.weight": "model-00003.safetensors"}, FileNotFoundError, "names model-00003"),
        ({"c.weight": "../other.safetensors"}, ValueError, "expected files of its own folder"),
        ({"c.weight": "model-00001-of-00002.safetensors"}, ValueError, "but it is not"),
    ],
)
def test_indices_that_do_not_fit_their_files(tmp_path, extra, error, message):
    with pytest.raises(error, match=message):
        open_checkpoint(sharded(tmp_path, **extra))


def test_a_folder_prefers_safetensors_and_never_guesses(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    with pytest.raises(FileNotFoundError, match="holds no weights; expected an Orbax"):
        open_checkpoint(tmp_path)
    torch.save({"bin.weight": torch.ones(2, 2)}, tmp_path / "pytorch_model.bin")
    torch.save({"lr": 1.0}, tmp_path / "training_args.bin")
    assert set(open_checkpoint(tmp_path)) == {"bin/kernel"}
    save_file({"x.weight": WEIGHT}, tmp_path / "x.safetensors")
    assert set(open_checkpoint(tmp_path)) == {"x/kernel"}
    save_file({"y.weight": WEIGHT}, tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match=r"several checkpoints; name one of x\.safe.*y\.safe"):
        open_checkpoint(tmp_path)
    save_file({"model.weight": WEIGHT}, tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path)) == {"kernel"}


def test_a_folder_may_hold_a_checkpoint_of_any_suffix(tmp_path):
    for suffix in FORMATS:
        folder = tmp_path / suffix.removeprefix(".")
        folder.mkdir()
        (folder / f"a{suffix}").touch()
        assert find_file(folder) == folder / f"a{suffix}"


def test_sharded_pytorch_files(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    torch.save({"a.weight": torch.from_numpy(WEIGHT)}, tmp_path / "m-1.bin")
    index = {"weight_map": {"a.weight": "m-1.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(open_checkpoint(tmp_path)["a/kernel"].read(), WEIGHT.T)


def test_npz_archives(tmp_path):
    saved = {
        "params/fc/kernel": WEIGHT,
        "torch.weight": WEIGHT,
        "fortran": np.asfortranarray(WEIGHT),
        "scalar": np.float64(2),
        "brain": WEIGHT.astype(ml_dtypes.bfloat16),
        "text": np.array(["a"]),
        "object": np.array([{}], dtype=object),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **saved)
        tensors = open_checkpoint(tmp_path / "a.npz")
        assert set(tensors) == (set(saved) - {"torch.weight"}) | {"torch/kernel"}
        for name in ("params/fc/kernel", "fortran", "scalar"):
            values = pickle.loads(pickle.dumps(tensors[name])).read()
            np.testing.assert_array_equal(values, saved[name])
        np.testing.assert_array_equal(tensors["torch/kernel"].read(), WEIGHT.T)
        assert "do not say which numbers" in tensors["brain"].reason
        assert tensors["object"].reason == "of type object"
        assert tensors["text"].reason == "of type <U1"


def test_archives_that_claim_more_than_they_hold(tmp_path):
    path, size = tmp_path / "a.npz", 128 + 8 * 300
    np.savez_compressed(path, a=np.zeros(300))
    content = path.read_bytes()
    assert content.count(struct.pack("<I", size)) >= 1
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 2**31)))
    with pytest.raises(ValueError, match=r"a\.npz .*a\.npy claims 2147483648 bytes, more than"):
        open_checkpoint(path)
    array = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", array.getvalue())
    with pytest.raises(ValueError, match=r"a\.npy of shape \(1099511627776,\) .* has 128 bytes"):
        open_checkpoint(path)


def test_a_report_accounts_for_every_tensor(tmp_path):
    saved = {
        "fc.weight": RNG.standard_normal((30, 20)),
        "nan.weight": np.full((30, 20), np.nan),
        "inf.weight": np.full((30, 20), np.inf),
        "zero.weight": np.zeros((30, 20)),
        "empty.weight": np.zeros((0, 20)),
        "scalar": np.zeros(()),
        "integer.weight": np.ones((30, 20), np.int32),
    }
    save_file(saved, tmp_path / "a.safetensors")
    report = fitting.evaluate(tmp_path / "a.safetensors", progress=False)
    assert len(report.layers) + len(report.skipped) == len(saved)
    invalid = report.layers.loc[~report.layers["valid"], ["name", "reason"]]
    assert {"nan/kernel", "inf/kernel", "zero/kernel"} <= set(invalid["name"])
    assert invalid["reason"].str.len().min() > 0
    assert report.skipped["reason"].str.len().min() > 0
