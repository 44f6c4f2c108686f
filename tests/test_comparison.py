"""Models compared: which layers changed, values, bad input, files and figures."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from draws import RNG
from published_comparison import published
from safetensors.numpy import save_file

import fitting
from examples.papers.published_metrics import RESNET, VGG
from fitting._command import main

WEIGHTS = RNG.standard_normal((3, 90, 60))
MODELS = {
    "first": {
        "a": {"kernel": WEIGHTS[0]},
        "b": {"kernel": WEIGHTS[1]},
        "c": {"kernel": WEIGHTS[2]},
    },
    "second": {
        "a": {"kernel": WEIGHTS[0][::-1]},
        "b": {"kernel": WEIGHTS[1] / 2},
        "c": {"kernel": np.zeros((90, 60))},
        "d": {"kernel": WEIGHTS[2]},
    },
}


@pytest.fixture(scope="module")
def reports():
    return {name: fitting.evaluate(model, progress=False) for name, model in MODELS.items()}


def test_which_layers_changed(reports):
    comparison = fitting.compare(reports)
    change = comparison.layers["spectrum_change", "second"]
    assert list(change.index.get_level_values("name")) == ["a/kernel", "b/kernel", "c/kernel"]
    np.testing.assert_allclose(change, [0, 0.5, 1], rtol=0, atol=1e-12)
    top = comparison.layers["lambda_max"]
    np.testing.assert_allclose(top["first"].iloc[1] / top["second"].iloc[1], 4)
    assert comparison.quality is None
    assert comparison.table.shape == (len(comparison.values.columns), 0)
    assert comparison.reading == []


def test_spectrum_change_is_at_most_that_of_the_weights():
    changed = WEIGHTS[0] + 0.1 * WEIGHTS[1]
    models = {"first": {"kernel": WEIGHTS[0]}, "second": {"kernel": changed}}
    found = fitting.compare({n: fitting.evaluate(m, progress=False) for n, m in models.items()})
    bound = 0.1 * np.linalg.norm(WEIGHTS[1]) / np.linalg.norm(changed)
    assert 0 < found.layers["spectrum_change", "second"].iloc[0] <= bound


def test_layers_of_other_shapes_are_not_held_against_one_another(reports):
    other = fitting.evaluate({"a": {"kernel": np.ones((80, 60)) + WEIGHTS[0][:80]}}, progress=False)
    assert fitting.compare({"first": reports["first"], "other": other}).layers is None


def test_values_are_the_summary_and_the_sizes(reports):
    values = fitting.compare(reports).values
    summary = reports["first"].summary
    for name in summary:
        if name.startswith(("mean_", "sum_")):
            assert values.loc["first", name] == pytest.approx(summary[name], nan_ok=True)
    assert values.loc["first", "log_num_layers"] == pytest.approx(math.log(3))
    assert values.loc["first", "log_num_weights"] == pytest.approx(math.log(3 * 90 * 60))


@pytest.mark.parametrize("conv", ["slices", "pooled", "flatten"])
def test_weights_of_a_convolution_are_counted_once(conv):
    kernel = RNG.standard_normal((3, 3, 20, 30))
    report = fitting.evaluate({"kernel": kernel}, conv=conv, progress=False)
    values = fitting.compare({"first": report, "second": report}).values
    assert values.loc["first", "log_num_weights"] == pytest.approx(math.log(kernel.size))


def test_reports_checkpoints_and_saved_reports_compare_alike(reports, tmp_path):
    saved = reports["first"].save(tmp_path / "first.json")
    tensors = {f"{name}.weight": leaf["kernel"].T.copy() for name, leaf in MODELS["second"].items()}
    save_file(tensors, tmp_path / "second.safetensors")
    expected = fitting.compare(reports).values
    found = fitting.compare({"first": saved, "second": str(tmp_path / "second.safetensors")}).values
    pd.testing.assert_frame_equal(found, expected)


def test_reports_of_different_convolutions_are_refused():
    model = {"kernel": np.random.default_rng(0).standard_normal((3, 3, 20, 30))}
    reports = {
        conv: fitting.evaluate(model, conv=conv, progress=False) for conv in ("slices", "pooled")
    }
    with pytest.raises(
        ValueError, match=r"conv is not the same in all reports, .* 'slices'.* 'pooled'"
    ):
        fitting.compare(reports)


def test_the_index_of_a_sharded_checkpoint_is_no_saved_report(tmp_path, capsys):
    weight = np.random.default_rng(0).standard_normal((60, 40))
    save_file({"fc.weight": weight}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"fc.weight": "a.safetensors"}}))
    comparison = fitting.compare({"one": index, "other": tmp_path / "a.safetensors"})
    assert comparison.values.loc["one"].equals(comparison.values.loc["other"])
    assert main(["compare", str(index), str(tmp_path / "a.safetensors"), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["values"]) == {"model", "a"}


def test_bad_arguments(reports):
    with pytest.raises(ValueError, match="reports is of 1 models; expected at least 2"):
        fitting.compare({"first": reports["first"]})
    with pytest.raises(ValueError, match=r"quality has no number for \['second'\]"):
        fitting.compare(reports, quality={"first": 1.0, "third": 2.0})
    with pytest.raises(ValueError, match="quality is given for 2 models, too few"):
        fitting.compare(reports, quality={"first": 1.0, "second": 2.0})
    with pytest.raises(ValueError, match="quality has no number"):
        fitting.compare({"first": "nothing.json", "second": "neither.json"}, quality={})
    with pytest.raises(ValueError, match="of type list without a weight matrix"):
        fitting.compare({"first": reports["first"], "second": []})
    with pytest.raises(FileNotFoundError):
        fitting.compare({"first": reports["first"], "second": "nothing.json"})
    quality = dict.fromkeys(VGG.index, 70.0) | {"vgg11": math.nan}
    with pytest.raises(ValueError, match=r"quality has \{'vgg11': nan\}; expected finite"):
        fitting.compare_values(VGG, quality=quality)
    with pytest.raises(ValueError, match=r"of which \['depth'\] are no columns"):
        fitting.compare_values(VGG, quality=None, controls=["depth"])


def test_the_reference_is_the_one_that_was_given():
    for quality in (None, dict.fromkeys(VGG.index, 70.0)):
        comparison = fitting.compare_values(VGG, quality=quality, reference="mean_alpha")
        assert comparison.reference == "mean_alpha"


def test_saved_whole_and_as_plain_json(reports, tmp_path):
    for name, comparison in (("a", fitting.compare(reports)), ("b", published(RESNET))):
        path = comparison.save(tmp_path / f"{name}.json")

        def refuse(constant):
            raise AssertionError(f"{constant} is no JSON")

        content = json.loads(path.read_text(), parse_constant=refuse)
        assert content == comparison.to_dict()
    assert content["table"]["mean_alpha_hat"]["tau"] == pytest.approx(-1)
    assert content["layers"] is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "b.json"]
    layer = json.loads((tmp_path / "a.json").read_text())["layers"][1]
    assert layer["name"] == "b/kernel"
    assert layer["spectrum_change"]["second"] == pytest.approx(0.5)


def test_figures(reports, tmp_path):
    drawn = published(VGG).plot(tmp_path / "vgg")
    assert [path.name for path in drawn] == ["alpha_hat.png", "metrics.png"]
    drawn += fitting.compare(reports).plot(tmp_path / "layers")
    assert drawn[-1].name == "layers.png"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    with pytest.raises(ValueError, match="has nothing to draw"):
        fitting.compare_values(VGG, quality=None).plot(tmp_path / "none")
    assert not (tmp_path / "none").exists()
