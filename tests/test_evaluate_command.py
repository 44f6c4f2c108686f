"""What `spectral-reg evaluate` takes, prints and writes."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
from fitting._checkpoints import FORMATS
from fitting._command import main

KERNEL = RNG.standard_normal((80, 60, 2, 2))
WEIGHT = RNG.standard_normal((300, 100)).astype(np.float32)

# Arguments of evaluate that the shell has no word for.
NOT_OPTIONS = {"model_or_path", "axes", "executor", "progress"}


def test_the_docs_and_the_help_name_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    help_text = capsys.readouterr().out
    for suffix in (*FORMATS, ".index.json"):
        assert suffix in (fitting.evaluate.__doc__ or "")
        assert suffix in help_text


def test_command_line(tmp_path, capsys):
    model = str(tmp_path / "a.safetensors")
    save_file({"fc.weight": WEIGHT}, model)
    assert main(["evaluate", model, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["summary"]["num_matrices"] == 1
    assert output.err == ""
    out = tmp_path / "out"
    assert main(["evaluate", model, "--out", str(out)]) == 0
    assert "RANDOM_LIKE" in capsys.readouterr().out
    assert fitting.load_report(out / "report.json").summary["num_matrices"] == 1
    assert main(["evaluate", model, "--out", str(out)]) == 1
    assert "resume=True" in capsys.readouterr().err
    assert main(["evaluate", model, "--out", str(out), "--resume"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "missing.pt")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "missing.pt" in output.err


def test_options_of_the_command_are_the_arguments_of_the_function(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    help_text = capsys.readouterr().out
    for name in set(inspect.signature(fitting.evaluate).parameters) - NOT_OPTIONS:
        assert f"--{name.replace('_', '-')} " in help_text
    model = str(tmp_path / "a.safetensors")
    save_file({"fc.weight": RNG.standard_t(2, (300, 100)).astype(np.float32)}, model)
    assert main(["evaluate", model, "--num-bootstrap", "20", "--json"]) == 0
    expected = fitting.evaluate(model, num_bootstrap=20, progress=False)
    (row,) = json.loads(capsys.readouterr().out)["layers"]
    assert row["p_value"] == expected.layers.loc[0, "p_value"]


def test_command_line_writes_weightwatchers_table(tmp_path, capsys):
    save_file({"fc.weight": WEIGHT}, tmp_path / "a.safetensors")
    table = tmp_path / "table.csv"
    assert main(["evaluate", str(tmp_path / "a.safetensors"), "--weightwatcher", str(table)]) == 0
    expected = fitting.evaluate(tmp_path / "a.safetensors", progress=False).to_weightwatcher()
    assert pd.read_csv(table)["alpha"].tolist() == pytest.approx(expected["alpha"].tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "table.csv"]


@pytest.mark.parametrize("option", ["--html", "--weightwatcher"])
def test_command_line_knows_before_the_work_that_it_cannot_write(tmp_path, capsys, option):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "b" / "c", "is missing")):
        assert main(["evaluate", str(tmp_path / "missing.pt"), option, str(path)]) == 1
        assert message in capsys.readouterr().err


def test_command_line_bears_a_reader_that_leaves(tmp_path):
    save_file({"fc.weight": WEIGHT}, tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "fitting", "evaluate", "--json"]
    folder = Path(fitting.__file__).parents[1]
    with subprocess.Popen(
        [*command, str(tmp_path / "a.safetensors")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
    ) as process:  # fmt: skip
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_command_line_takes_the_size_of_a_convolutions_input(tmp_path, capsys):
    save_file({"conv.weight": KERNEL}, tmp_path / "a.safetensors")
    assert main(["evaluate", str(tmp_path / "a.safetensors"), "--conv", "3x4", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [row["num_eigenvalues"] for row in layers] == [3 * 4 * 60]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.pt", "--conv", "sliced"],
        ["a.pt", "--conv", "0x3"],
        ["a.pt", "--resume"],
        ["a", "-x"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as usage:
        main(["evaluate", *arguments])
    assert usage.value.code == 2
    assert capsys.readouterr().out == ""
