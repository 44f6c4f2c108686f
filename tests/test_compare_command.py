"""What `spectral-reg compare` and its example print, write and refuse."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

import fitting
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
    assert sorted(written) == [
        "comparison.html", "comparison.json", "figures", "layers.csv", "layers.png", "metrics.csv"
    ]  # fmt: skip
    out = tmp_path / "out"
    assert [path.name for path in (out / "figures").iterdir()] == ["layers.png"]
    metrics = pd.read_csv(out / "metrics.csv", index_col="metric")
    assert metrics.columns.tolist() == ["before", "after"]
    layers = pd.read_csv(out / "layers.csv", keep_default_na=False)
    assert layers["name"].tolist() == ["fc/kernel"]
    assert layers["spectrum_change after"].iloc[0] > 0


def test_the_page_of_a_comparison(files, tmp_path):
    page = tmp_path / "page.html"
    (tmp_path / "quality.json").write_text(json.dumps({f"model{i}": 4 - i for i in range(4)}))
    assert main(
        ["compare", *files, "--html", str(page), "--quality", str(tmp_path / "quality.json")]
    ) == 0  # fmt: skip
    text = page.read_text(encoding="utf-8")
    comparison = fitting.compare({Path(name).stem: name for name in files})
    largest = comparison.layers["spectrum_change", "model3"].iloc[0]
    assert f'data-v="{largest:.6g}">{largest:.3f}</td>' in text
    assert text.index("Shared matrices") < text.index("Metrics")
    for part in ("mean_alpha_hat", "change to model3", "tau_p", 'data-name="fc"', "In plain words"):
        assert part in text
    assert "http" not in text.replace("Content-Security-Policy", "").replace("http-equiv", "")


def test_the_folder_and_page_of_what_shares_nothing(files, tmp_path):
    rng = np.random.default_rng(0)
    name = "<b>&@@rows@@.weight"
    other = tmp_path / "other.safetensors"
    save_file({name: rng.normal(size=(60, 50)).astype(np.float32)}, other)
    out = tmp_path / "out"
    assert main(["compare", files[0], str(other), "--names", "a<i>", "b", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "comparison.html", "comparison.json", "metrics.csv"
    ]  # fmt: skip
    text = (out / "comparison.html").read_text(encoding="utf-8")
    assert "Shared matrices" not in text
    assert "a&lt;i&gt;" in text
    assert "a<i>" not in text
    assert "no matrix shared" in text


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
