"""What `spectral-reg compare` and its example print, write and refuse."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from examples import compare_checkpoints
from fitting._command import main


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(5)
    for number in range(4):
        weight = rng.standard_t(1.5 + number / 4, (120, 80)).astype(np.float32)
        save_file({"fc.weight": weight}, tmp_path / f"model{number}.safetensors")
    return [str(tmp_path / f"model{number}.safetensors") for number in range(4)]


def test_command_line_compares_two_checkpoints(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    arguments = [
        "compare",
        *files[:2],
        "--names",
        "before",
        "after",
        "--out",
        str(tmp_path / "out"),
        "--plot",
        str(tmp_path / "figures"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 80
    for text in ("before", "after", "mean_alpha_hat", "fc", "0 of 1 layers have"):
        assert text in printed.out
    written = [path.name for folder in ("out", "figures") for path in (tmp_path / folder).iterdir()]
    assert written == ["comparison.json", "layers.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("quality.json", '{"model0": 4, "model1": 3, "model2": 2, "model3": 1, "other": 7}'),
        ("quality.csv", "model,top1\nmodel0,4\nmodel1,3\nmodel2,2\nmodel3,1\n"),
        ("quality.csv", "model0,4\nmodel1,3\nmodel2,2\nmodel3,1\n"),
    ],
)
def test_command_line_with_quality(files, tmp_path, capsys, monkeypatch, name, content):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / name).write_text(content)
    assert main(["compare", *files, "--quality", str(tmp_path / name)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "quality against" in printed
    assert main(["compare", *files, "--quality", str(tmp_path / name), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["quality"] == {"model0": 4, "model1": 3, "model2": 2, "model3": 1}
    assert content["table"]["mean_log_spectral_norm"]["num_models"] == 4


def test_command_line_refuses(files, tmp_path, capsys):
    (tmp_path / "quality.csv").write_text("model0;4\n")
    for arguments, message in (
        ([files[0], str(tmp_path / "missing.pt")], "no checkpoint file at"),
        ([*files, "--quality", str(tmp_path / "quality.csv")], "is no table of qualities"),
        ([*files, "--quality", str(tmp_path / "none.csv")], "none.csv"),
    ):
        assert main(["compare", *arguments]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert message in printed.err
    # Figures that were asked for are never left out in silence.
    save_file({"other.weight": np.eye(30, 20, dtype=np.float32)}, tmp_path / "other.safetensors")
    out = ["--out", str(tmp_path / "out"), "--plot", str(tmp_path / "figures")]
    assert main(["compare", files[0], str(tmp_path / "other.safetensors"), *out]) == 1
    assert "nothing to draw" in capsys.readouterr().err
    assert (tmp_path / "out" / "comparison.json").is_file()
    for arguments, message in (
        ([files[0]], "MODEL is given 1 times; expected at least 2"),
        ([*files, "--names", "a"], "--names has 1; expected one for each of 4 models"),
        ([files[0], files[0]], "model0 is the name of several models; expected --names"),
    ):
        with pytest.raises(SystemExit) as usage:
            main(["compare", *arguments])
        assert usage.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_example_says_that_depth_does_better_than_the_metrics(checkpoints, tmp_path, capsys):
    pytest.importorskip("torch", reason="needs torch")
    arguments = ["--checkpoints", str(checkpoints), "--out", str(tmp_path)]
    assert compare_checkpoints.main(arguments) == 0
    record = (tmp_path / "results.md").read_text()
    assert "log_num_layers does better than mean_alpha_hat" in record
    assert "norm mean_log_spectral_norm cannot be told from mean_alpha_hat" in record
    figures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert figures == [
        f"{name}-slices/{figure}.png"
        for name in ("cifar10", "cifar100")
        for figure in ("alpha_hat", "metrics")
    ]


def test_example_without_its_files_is_bad_input(tmp_path, capsys):
    assert compare_checkpoints.main(["--checkpoints", str(tmp_path)]) == 1
    assert "no checkpoint file at" in capsys.readouterr().err
