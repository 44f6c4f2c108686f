"""The script for accelerators, in its smallest form."""

import json

import pytest

from benchmarks import accelerator


@pytest.mark.slow
@pytest.mark.usefixtures("promoted_types")
def test_runs_and_goes_on(tmp_path, capsys):
    accelerator.main(["--out", str(tmp_path), "--smallest"])
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {*found} == {"spectra-24", "gpt", "ensemble"}
    for part in found.values():
        assert all(row["ms"] > 0 for row in part["rows"])
    names = {row["penalty"] for row in found["gpt"]["rows"]}
    assert {"none", "none, again", "power law, warm, every=2"} <= names
    assert "| tiny GPT | none |" in capsys.readouterr().out
    # What is there is not run again.
    before = (tmp_path / "gpt.json").stat().st_mtime_ns
    accelerator.main(["--out", str(tmp_path), "--smallest", "--parts", "gpt"])
    assert (tmp_path / "gpt.json").stat().st_mtime_ns == before


def test_unknown_parts_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        accelerator.main(["--out", str(tmp_path), "--parts", "gtp"])
    assert "--parts is gtp; expected some of spectra-384" in capsys.readouterr().err
