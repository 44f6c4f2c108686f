"""Files measured: formats alike, no stranger's code run, bad files, trained checkpoints."""

import pickle

import numpy as np
import pandas as pd
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting


def test_safetensors_and_torch_files_measure_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    weight = RNG.standard_normal((40, 60)).astype(np.float32)
    save_file({"model.fc.weight": weight}, tmp_path / "a.safetensors")
    state_dict = {"module.fc.weight": torch.from_numpy(weight)}
    torch.save({"epoch": 3, "state_dict": state_dict}, tmp_path / "b.pth.tar")
    torch.save(state_dict, tmp_path / "c.pt")
    frames = [fitting.evaluate(path, progress=False).layers for path in sorted(tmp_path.iterdir())]
    expected = fitting.evaluate({"fc": {"kernel": weight.T}}, progress=False).layers
    for frame in frames:
        pd.testing.assert_frame_equal(frame, expected)


class Malicious:
    def __reduce__(self):
        return (open, ("planted", "w"))


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"w": Malicious()}, protocol=2))
    with pytest.raises(ValueError, match="never loaded"):
        fitting.evaluate(tmp_path / "bad.pt", progress=False)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"ends in '.txt'; expected one of \.pt"),
        ("a.safetensors", b"short", "no readable safetensors"),
        ("a.pt", b"", "a.pt"),
        ("a.pt", b"PK\x03\x04 cut off", "a.pt"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    pytest.importorskip("torch", reason="needs torch")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fitting.evaluate(tmp_path / name, progress=False)


def test_trained_checkpoint_with_its_removed_layers(checkpoints):
    """The distiller model of the first paper's Figure 4: five convolutions are all zero."""
    pytest.importorskip("torch", reason="needs torch")
    path = (
        checkpoints / "distiller_resnet20" / "checkpoint_trained_4D_regularized_5Lremoved.pth.tar"
    )
    layers = fitting.evaluate(path, conv="pooled", progress=False).layers
    zero = layers[layers["reason"] == "all weights are zero, or too small to square"]
    assert len(zero) == 5
    assert layers.loc[layers["valid"], "alpha"].between(1, 20).all()


def test_norms_of_a_trained_checkpoint_are_weightwatchers(checkpoints):
    pytest.importorskip("torch", reason="needs torch")
    path = checkpoints / "distiller_resnet20" / "checkpoint_trained_dense.pth.tar"
    ours = fitting.evaluate(path, conv="pooled", progress=False).layers.set_index("name")
    theirs = pd.read_csv(checkpoints / "reference" / "ww_distiller_dense.csv")
    for _, reference in theirs.iterrows():
        name = reference["longname"].removeprefix("module.").replace(".", "/") + "/kernel"
        # WeightWatcher scales the matrices of a convolution by 1 / sqrt 2... of its window.
        factor = ours.loc[name, "lambda_max"] / reference["lambda_max"]
        assert ours.loc[name, "stable_rank"] == pytest.approx(reference["stable_rank"], rel=1e-5)
        assert ours.loc[name, "frobenius_norm"] ** 2 / factor == pytest.approx(
            reference["norm"], rel=1e-5
        )
