"""Corrupted files of every format: a clear error that names the file, or a report."""

import io
import json
import struct
import sys
import zipfile

import numpy as np
import pytest
from draws import RNG

import fitting
import spectral_reg as sr
from fitting._checkpoints import open_checkpoint

NUM_FILES = 500
WEIGHTS = {
    "fc.weight": RNG.standard_normal((12, 16)).astype(np.float32),
    "fc.bias": np.zeros(12, np.float32),
    "conv.weight": RNG.standard_normal((12, 10, 1, 2)).astype(np.float32),
}


def write_torch(path):
    torch = pytest.importorskip("torch", reason="needs torch")
    state_dict = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
    torch.save({"state_dict": state_dict, "optimizer": {"state": {0: torch.ones(3)}}}, path)


def write_legacy_torch(path):
    torch = pytest.importorskip("torch", reason="needs torch")
    state_dict = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
    torch.save(state_dict, path, _use_new_zipfile_serialization=False)


def write_safetensors(path):
    from safetensors.numpy import save_file

    save_file(WEIGHTS, path, metadata={"format": "pt"})


def write_index(path):
    write_safetensors(path.parent / "shard.safetensors")
    weight_map = dict.fromkeys(WEIGHTS, "shard.safetensors")
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_npz(path):
    np.savez(path, **WEIGHTS)


def write_compressed_npz(path):
    np.savez_compressed(path, **WEIGHTS)


def write_msgpack(path):
    serialization = pytest.importorskip("flax.serialization", reason="needs flax")
    path.write_bytes(serialization.to_bytes({"fc": {"kernel": WEIGHTS["fc.weight"]}}))


def write_h5(path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = WEIGHTS["fc.weight"]
        file["layers/dense/vars/1"] = WEIGHTS["fc.bias"]


def write_keras(path):
    buffer = io.BytesIO()
    write_h5(buffer)
    layer = {"class_name": "Dense", "config": {"name": "dense"}}
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())


def write_onnx(path):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    node = onnx.helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], transB=1)
    graph = onnx.helper.make_graph([node], "graph", [], [], initializers)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


WRITERS = {
    ".pt": write_torch,
    ".pth.tar": write_legacy_torch,
    ".safetensors": write_safetensors,
    ".safetensors.index.json": write_index,
    ".npz": write_npz,
    "_compressed.npz": write_compressed_npz,
    ".msgpack": write_msgpack,
    ".weights.h5": write_h5,
    ".keras": write_keras,
    ".onnx": write_onnx,
}


def truncate(content, rng):
    return content[: rng.integers(len(content))]


def flip_bits(content, rng):
    damaged = bytearray(content)
    # Near the ends is where the headers and directories are.
    size = len(damaged)
    near = rng.choice([min(size, 64), min(size, 600), size])
    for place in rng.integers(near, size=rng.integers(1, 6)):
        place = place if rng.random() < 0.5 else size - 1 - place
        damaged[place] ^= 1 << rng.integers(8)
    return bytes(damaged)


def huge_length(content, rng):
    length = struct.pack("<Q", int(rng.choice([2**63 - 1, 2**40, 2**31, len(content)])))
    place = int(rng.integers(max(1, len(content) - 8))) if rng.random() < 0.7 else 0
    return content[:place] + length + content[place + 8 :]


def drop_or_double(content, rng):
    begin, end = sorted(rng.integers(len(content), size=2))
    return content[:begin] + content[end:] + content[begin:end] * int(rng.integers(2))


def replace_digits(content, rng):
    """Other numbers in a header of text: wrong shapes, offsets and lengths."""
    places = [place for place, byte in enumerate(content[:2000]) if chr(byte).isdigit()]
    damaged = bytearray(content)
    for place in rng.permutation(places)[:3]:
        damaged[place] = ord(str(rng.integers(10)))
    return bytes(damaged)


def nothing(content, rng):
    return b""


def noise(content, rng):
    return rng.bytes(int(rng.integers(1, 400)))


DAMAGES = [truncate, flip_bits, flip_bits, flip_bits, huge_length, drop_or_double, replace_digits]
RARE = [nothing, noise]


def check(path):
    """Evaluates the file; warnings are errors, so it warns of nothing either."""
    failure = None
    try:
        report = fitting.evaluate(path, progress=False)
    except (ValueError, FileNotFoundError) as error:
        failure = str(error)
    if failure is None:
        assert report.skipped["reason"].str.len().gt(0).all()
        assert report.layers.loc[~report.layers["valid"], "reason"].str.len().gt(0).all()
        return "report"
    assert path.name in failure or nothing_to_measure(path), failure
    assert len(failure.splitlines()) == 1, failure
    return "error"


def nothing_to_measure(path):
    return not any(
        sr.is_layer_matrix(name, tensor) and not tensor.reason and 0 not in tensor.shape
        for name, tensor in open_checkpoint(path).items()
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for suffix, write in WRITERS.items():
        write(folder / f"model{suffix}")
    return folder


def fuzz(originals, tmp_path, numbers):
    outcomes = set()
    for number in numbers:
        rng = np.random.default_rng(number)
        suffixes = list(WRITERS)
        suffix = suffixes[number % len(suffixes)]
        content = (originals / f"model{suffix}").read_bytes()
        rare = number // len(suffixes) % 12 == 0
        damage = (RARE if rare else DAMAGES)[rng.integers(len(RARE if rare else DAMAGES))]
        mislabelled = rng.random() < 0.06
        path = tmp_path / f"damaged{rng.choice(suffixes) if mislabelled else suffix}"
        (tmp_path / "shard.safetensors").write_bytes((originals / "shard.safetensors").read_bytes())
        path.write_bytes(content if mislabelled else damage(content, rng))
        try:
            outcomes.add((suffix, check(path)))
        except BaseException as error:
            error.add_note(f"file {number}: {damage.__name__} of {suffix}, as {path.name}")
            raise
    return outcomes


def test_undamaged_files_give_reports(originals):
    assert {check(originals / f"model{suffix}") for suffix in WRITERS} == {"report"}


def test_corrupted_files(originals, tmp_path):
    outcomes = fuzz(originals, tmp_path, range(NUM_FILES))
    assert {suffix for suffix, outcome in outcomes if outcome == "error"} == set(WRITERS)
    assert {outcome for _, outcome in outcomes} == {"error", "report"}


@pytest.mark.parametrize("use_ocdbt", [True, False])
def test_corrupted_orbax_folders(tmp_path, use_ocdbt):
    ocp = pytest.importorskip("orbax.checkpoint", reason="needs orbax-checkpoint")
    folder = tmp_path / "saved"
    tree = {"fc": {"kernel": WEIGHTS["fc.weight"], "bias": WEIGHTS["fc.bias"]}}
    ocp.PyTreeCheckpointer(use_ocdbt=use_ocdbt).save(folder, tree)
    files = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    files = {file: content for file, content in files.items() if content}
    assert check(folder) == "report"
    outcomes = set()
    for number in range(30):
        rng = np.random.default_rng(number)
        file = list(files)[number % len(files)]
        file.write_bytes(DAMAGES[rng.integers(len(DAMAGES))](files[file], rng))
        outcomes.add(check(folder))
        file.unlink()
        outcomes.add(check(folder))
        file.write_bytes(files[file])
    assert outcomes == {"error", "report"}


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [
        (".pt", "torch", "torch"),
        (".msgpack", "msgpack", "flax"),
        (".weights.h5", "h5py", "keras"),
        (".keras", "h5py", "keras"),
        (".onnx", "onnx", "onnx"),
    ],
)
def test_a_package_that_is_not_installed_is_named(originals, monkeypatch, suffix, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"reading model{suffix} needs {package}: pip install 'spectral-reg\[{extra}\]'"
    with pytest.raises(ImportError, match=message):
        open_checkpoint(originals / f"model{suffix}")
