"""Models that nobody means to hand over: a true reason, or one clear error."""

import json

import numpy as np
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
from fitting._command import main

W = RNG.normal(size=(60, 40)).astype(np.float32)


def evaluated(model, **options):
    report = fitting.evaluate(model, progress=False, **options)
    return report.layers["name"].tolist(), dict(report.skipped[["name", "reason"]].to_numpy())


def cycle():
    tree = {"fc": {"kernel": W}}
    tree["again"] = tree
    return tree


def test_trees_that_are_none():
    with pytest.raises(ValueError, match="model_or_path contains itself, or is nested too deeply"):
        evaluated(cycle())
    with pytest.raises(ValueError, match="a dict with keys of the types int, str, such as"):
        evaluated({0: {"kernel": W}, "fc": {"kernel": W}})
    with pytest.raises(ValueError, match=r"num_bootstrap is 2\.5; expected a whole number"):
        evaluated({"fc": {"kernel": W}}, num_bootstrap=2.5)
    with pytest.raises(ValueError, match="where the base has none; expected"):
        evaluated({"fc": {"kernel": W}}, base=3)


def test_leaves_that_are_none():
    pandas = pytest.importorskip("pandas")
    masked = np.ma.masked_array(W, mask=W > 1)
    names, reasons = evaluated(
        {
            "a": {"kernel": masked},
            "b": {"kernel": pandas.DataFrame(W)},
            "c": {"kernel": np.ma.masked_array(W)},
        }
    )
    assert names == ["c/kernel"]
    assert reasons["a/kernel"] == "some of its entries are masked, and have no value"
    assert reasons["b/kernel"] == "no array but DataFrame"
    report = fitting.evaluate({"a": {"kernel": 1e-200 * W.astype(float)}}, progress=False)
    assert report.layers.loc[0, "reason"] == "all weights are zero, or too small to square"


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_modules_without_values():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="is of type ReLU, with no parameter or buffer"):
        evaluated(torch.nn.ReLU())
    with pytest.raises(ValueError, match="'kernel': on the meta device, without values"):
        evaluated(torch.nn.Linear(60, 40, device="meta"))
    names, reasons = evaluated(torch.nn.Sequential(torch.nn.LazyLinear(40), torch.nn.Linear(40, 9)))
    assert names == ["1/kernel"]
    assert reasons["0/bias"].startswith("not initialized: its lazy layer")


def test_files_of_bare_matrices(tmp_path):
    np.savez(tmp_path / "a.npz", first=W, second=W[:, :30], third=W[0])
    assert evaluated(tmp_path / "a.npz")[0] == ["first", "second"]
    # A module's tensors of unknown names are left out as before.
    save_file({"decoder.mystery": W}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="not that of a weight matrix"):
        evaluated(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (".\\one.safetensors", ""),
        ("./one.safetensors", ""),
        ("..\\one.safetensors", r"it names '\.\./one\.safetensors'; expected files of its own"),
        (3, "its weight_map is .* expected names and their files"),
    ],
)
def test_indices_of_windows_and_worse(tmp_path, file, says):
    save_file({"fc.weight": W}, tmp_path / "one.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"fc.weight": file}}))
    if not says:
        assert evaluated(index)[0] == ["fc/kernel"]
        return
    with pytest.raises(ValueError, match=says):
        evaluated(index)


def test_names_in_tables_figures_and_pages(tmp_path, capsys):
    names = ("$\\frac$", "a$b$", "日本", "\x1b[31mred", "a\nb", "_x")
    path = tmp_path / "names.safetensors"
    save_file({f"{name}.weight": W for name in names}, path)
    assert main(["evaluate", str(path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "\\x1b[31mred" in printed
    assert "\x1b[31m" not in printed
    assert "a\\nb" in printed
    for name, command in (("$\\x$", "compare"), ("_b", "compare")):
        names = ["--names", "a", name, "--out", str(tmp_path / name.strip("$\\"))]
        assert main([command, str(path), str(path), *names]) == 0
