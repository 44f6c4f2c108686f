"""Pickles in PyTorch files: no stranger's code runs, and what is no checkpoint says so."""

import pickle
import zipfile

import numpy as np
import pytest
from torch_files import save, weights

import fitting
from fitting._checkpoints import open_checkpoint

torch = pytest.importorskip("torch", reason="needs torch, which the tests' requirements install")


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "in a stand-in"])
def test_a_malicious_pickle_does_not_run(tmp_path, form):
    target = tmp_path / "planted"
    payload = {"fc.weight": torch.ones(12, 12), "payload": Malicious(target)}
    path = tmp_path / "bad.pth.tar"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    elif form == "in a stand-in":
        payload["fc.weight"] = [_recipe(Malicious(target))]
        save(path, payload)
    else:
        save(path, payload, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"bad\.pth\.tar .*never loaded"):
        fitting.evaluate(path, progress=False)
    assert not target.exists()
    # The payload is live: were it run, the file would be there.
    torch.load(path, weights_only=False) if form != "bare pickle" else pickle.loads(
        path.read_bytes()
    )
    assert target.exists()


def test_versions_of_torch_that_files_can_make_run_code_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.pt", weights(fc__weight=torch.ones(3, 2)))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ImportError, match=r"torch 2\.6 or later, but 2\.5\.1"):
        open_checkpoint(path)


def _recipe(argument):
    """An object that a pickle describes as argparse.Namespace, which has a stand-in."""
    import argparse

    return argparse.Namespace(inner=argument)


def test_stand_ins_hold_what_they_are_given_and_do_nothing(tmp_path):
    checkpoint = {
        "state_dict": weights(fc__weight=torch.ones(3, 2)),
        "args": _recipe(torch.ones(2)),
        "best": np.float64(0.9),
        "random_state": np.arange(3),
    }
    tensors = open_checkpoint(save(tmp_path / "a.pt", checkpoint))
    np.testing.assert_array_equal(tensors["fc/kernel"].read(), np.ones((2, 3)))
    assert [tensor.reason for tensor in tensors.values()] == [
        "",
        "not in the state dict, under 'args'",
        "not in the state dict, under 'random_state'",
    ]
    assert "argparse" not in {known.__module__ for known in torch.serialization.get_safe_globals()}


def test_nested_references_are_followed_once(tmp_path):
    """Lists of two references each, sixty deep: 2^60 ways lead to the same tensor."""
    nested = [torch.ones(2)]
    for _ in range(60):
        nested = [nested, nested]
    path = save(tmp_path / "a.pt", {"fc.weight": torch.ones(3, 2), "nested": nested})
    assert [tensor.shape for tensor in open_checkpoint(path).values()] == [(2, 3), (2,)]


def test_numpy_arrays_in_a_pickle_are_listed_but_not_loaded(tmp_path):
    state_dict = {"fc.weight": torch.ones(3, 2), "np.weight": np.ones((2, 3))}
    tensors = open_checkpoint(save(tmp_path / "a.pt", state_dict))
    assert tensors["np/scale"].reason == "a pickled NumPy array, never loaded"
    assert tensors["fc/kernel"].read().shape == (2, 3)


def test_files_that_are_no_checkpoints_of_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    save(tmp_path / "b.pt", {"epoch": 3})
    save(tmp_path / "c.pt", torch.nn.Linear(2, 2))
    with zipfile.ZipFile(tmp_path / "d.pt", "w") as archive:
        archive.writestr("d/constants.pkl", b"")
    for name, message in (
        ("a.pt", "none of torch.save"),
        ("b.pt", r"holds no tensors .* it holds the keys \['epoch'\]"),
        ("c.pt", "save the weights alone"),
        ("d.pt", "TorchScript"),
    ):
        with pytest.raises(ValueError, match=rf"(?s){name} .*{message}"):
            open_checkpoint(tmp_path / name)
