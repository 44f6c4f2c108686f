"""Values come one tensor at a time: none when a file is opened, and no more than one later."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

from fitting._checkpoints import open_checkpoint

NUM_TENSORS, SHAPE = 16, (256, 512)
NUM_BYTES = 4 * 256 * 512


def tensors():
    return {f"layers.{n}.weight": np.full(SHAPE, n, np.float32) for n in range(NUM_TENSORS)}


def write_shards(folder):
    weight_map = {}
    for name, array in tensors().items():
        weight_map[name] = f"{name}.safetensors"
        save_file({name: array}, folder / weight_map[name])
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    return path


def write_safetensors(folder):
    save_file(tensors(), folder / "a.safetensors")
    return folder / "a.safetensors"


def write_npz(folder):
    np.savez(folder / "a.npz", **tensors())
    return folder / "a.npz"


def write_h5(folder):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        for name, array in tensors().items():
            file[f"{name}/kernel"] = array
    return folder / "a.h5"


def write_torch(folder):
    torch = pytest.importorskip("torch", reason="needs torch")
    state_dict = {name: torch.from_numpy(array) for name, array in tensors().items()}
    torch.save(state_dict, folder / "a.pt")
    return folder / "a.pt"


@pytest.mark.parametrize(
    "write", [write_shards, write_safetensors, write_npz, write_h5, write_torch]
)
def test_values_are_read_one_tensor_at_a_time(tmp_path, write):
    path = write(tmp_path)
    open_checkpoint(path)  # what it imports is none of the file's
    tracemalloc.start()
    try:
        opened = open_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < NUM_BYTES
        sums = {float(tensor.read().mean()) for tensor in opened.values()}
        assert sums == set(range(NUM_TENSORS))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * NUM_BYTES
    finally:
        tracemalloc.stop()
    assert {tensor.shape for tensor in opened.values()} <= {SHAPE, SHAPE[::-1]}
