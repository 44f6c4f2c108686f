"""The change of a model from its base: tuned weights, adapters by PEFT itself, bad input."""

import json

import ml_dtypes
import numpy as np
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
import spectral_reg as sr
from fitting._command import main
from fitting._evaluation import short_name


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def singular_values(matrix):
    return np.linalg.svd(matrix.astype(np.float64), compute_uv=False)


def measured(tuned, base, **options):
    return fitting.evaluate(tuned, base=base, progress=False, **options)


def test_the_spectrum_share_and_overlap_of_a_change():
    W = normal(90, 70)
    left, values, right = np.linalg.svd(W, full_matrices=False)
    along = 0.1 * (left[:, :10] * values[:10]) @ right[:10]
    away = 0.1 * (left[:, 20:30] * values[20:30]) @ right[20:30]
    base = {"a": {"kernel": W}, "b": {"kernel": W}, "c": {"kernel": W}}
    tuned = {"a": {"kernel": W + along}, "b": {"kernel": W + away}, "c": {"kernel": W}}
    report = measured(tuned, base)
    rows = report.layers.set_index("name")
    np.testing.assert_allclose(
        rows.loc["a/kernel", "change_share"], np.linalg.norm(along) / np.linalg.norm(W), rtol=1e-5
    )
    found = report.spectra["a/kernel", ""]
    np.testing.assert_allclose(found[:10], (0.1 * values[:10]) ** 2, rtol=1e-4)
    assert rows.loc["a/kernel", "change_overlap"] == pytest.approx(1, abs=1e-4)
    assert rows.loc["b/kernel", "change_overlap"] == pytest.approx(0, abs=1e-4)
    assert rows.loc["a/kernel", "change_overlap_by_chance"] == pytest.approx((1 / 9 + 1 / 7) / 2)
    assert rows.loc["c/kernel", "reason"] == "unchanged: equal to the base's"
    assert not rows.loc["c/kernel", "valid"]


def test_overlap_of_large_matrices_as_of_an_svd():
    from fitting._evaluation._overlap import change_beside_base

    W, change = RNG.standard_t(3, (200, 150)), RNG.standard_t(3, (200, 150))
    left, _, right = np.linalg.svd(W)
    left_c, _, right_c = np.linalg.svd(change)
    squares = [
        np.sum((a[:, :10].T @ b[:, :10]) ** 2) for a, b in ((left_c, left), (right_c.T, right.T))
    ]
    found = change_beside_base(change, W)["change_overlap"]
    assert found == pytest.approx(sum(squares) / 20, rel=1e-3)
    nothing = change_beside_base(0 * W, W)
    assert (nothing["change_share"], np.isnan(nothing["change_overlap"])) == (0, True)


def test_names_wrapped_or_not_orientation_and_what_is_not_shared(tmp_path):
    W, U, V = normal(60, 40), normal(60, 40), normal(50, 50)
    save_file({"model.layers.0.q.weight": W, "model.emb.weight": V}, tmp_path / "base.safetensors")
    tuned = {"module.model.layers.0.q.weight": W + U, "lm_head.weight": V, "emb.weight": V[:30]}
    save_file(tuned, tmp_path / "tuned.safetensors")
    report = measured(tmp_path / "tuned.safetensors", tmp_path / "base.safetensors")
    assert len(report.layers) == 1
    top = report.layers.loc[0, "spectral_norm"]
    assert top == pytest.approx(singular_values(U)[0], rel=1e-5)
    reasons = report.skipped.set_index("name")["reason"]
    assert "no weight of its name" in reasons.loc["lm_head/kernel"]
    assert "the base's is of shape" in reasons.filter(like="emb").iloc[0]

    turned = measured({"q": {"kernel": W.T}}, {"q": {"kernel": W - U}})
    assert turned.layers.loc[0, "spectral_norm"] == pytest.approx(singular_values(U)[0], rel=1e-5)
    assert short_name("base_model/model/model/layers/0/q/base_layer/kernel") == "layers/0/q/kernel"


def test_bfloat16_is_subtracted_exactly_and_fused_parts_are_compared():
    W = normal(64, 192).astype(ml_dtypes.bfloat16)
    small = (W.astype(np.float32) * (1 + 2.0**-7)).astype(ml_dtypes.bfloat16)
    report = measured({"qkv": {"kernel": small}}, {"qkv": {"kernel": W}})
    expected = small.astype(np.float64) - W.astype(np.float64)
    rows = report.layers.set_index("index")
    for place, part in enumerate(("query", "key", "value")):
        change = expected[:, 64 * place : 64 * place + 64]
        share = np.linalg.norm(change) / np.linalg.norm(
            W.astype(float)[:, 64 * place : 64 * place + 64]
        )
        assert rows.loc[part, "change_share"] == pytest.approx(share)
        assert rows.loc[part, "frobenius_norm"] == pytest.approx(np.linalg.norm(change))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_adapters_as_peft_merges_them(tmp_path, dora, rslora):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(60, 80, bias=False), torch.nn.Linear(80, 40))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    save_file(
        {name: weight.numpy() for name, weight in before.items()}, tmp_path / "base.safetensors"
    )
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=["0", "1"], use_dora=dora, use_rslora=rslora
    )
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight += 0.3 * torch.randn(weight.shape)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = wrapped.merge_and_unload().state_dict()
    report = measured(tmp_path / "adapter", tmp_path / "base.safetensors")
    assert len(report.layers) == 2
    for row, place in zip(report.layers.to_dict("records"), "01", strict=True):
        change = (merged[f"{place}.weight"] - before[f"{place}.weight"]).numpy()
        assert row["kind"] == ("dora" if dora else "lora")
        assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(change), rel=1e-4)
        assert row["spectral_norm"] == pytest.approx(singular_values(change)[0], rel=1e-4)
        share = np.linalg.norm(change) / np.linalg.norm(before[f"{place}.weight"].numpy())
        assert row["change_share"] == pytest.approx(share, rel=1e-4)
        assert 0 < row["change_overlap"] < 1


def test_adalora_as_peft_merges_it(tmp_path):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(60, 80, bias=False), torch.nn.Linear(80, 40))
    before = {name: weight.clone().numpy() for name, weight in model.state_dict().items()}
    config = peft.AdaLoraConfig(
        init_r=6, target_r=3, lora_alpha=8, target_modules=["0", "1"], total_step=20
    )
    live = peft.get_peft_model(model, config)
    kept = {"0": [True, False, True, True, False, True], "1": [True] * 6}
    patterns = {f"{place}.lora_E.default": pattern for place, pattern in kept.items()}
    live.peft_config["default"].rank_pattern = patterns
    with torch.no_grad():
        for name, weight in live.named_parameters():
            if "lora_" in name:
                weight += 0.3 * torch.randn(weight.shape)
        live.base_model.model[0].lora_E["default"][[1, 4]] = 0
    live.save_pretrained(tmp_path)
    of_live = measured(live, before).layers.query("kind == 'lora'")
    of_file = measured(tmp_path, before).layers
    alone = fitting.evaluate(tmp_path, progress=False).layers
    assert of_file["num_eigenvalues"].tolist() == [4, 6]
    merged = live.merge_and_unload().state_dict()
    for layers in (of_live, of_file, alone):
        for row, place in zip(layers.to_dict("records"), "01", strict=True):
            change = merged[f"{place}.weight"].numpy() - before[f"{place}.weight"]
            assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(change), rel=1e-4)

    settings = tmp_path / "adapter_config.json"
    said = json.loads(settings.read_text())
    settings.write_text(json.dumps({key: said[key] for key in said if key != "init_r"}))
    assert set(fitting.evaluate(tmp_path, progress=False).layers["kind"]) == {
        "lora, alpha not known"
    }
    with pytest.raises(ValueError, match="whose alpha is not known"):
        measured(tmp_path, before)


def test_an_adapter_of_rank_0_adds_nothing():
    adapter = {
        "q.lora_A.weight": normal(0, 40), "q.lora_B.weight": normal(30, 0), "o.weight": normal(9, 8)
    }  # fmt: skip
    report = fitting.evaluate(adapter, progress=False)
    assert report.layers["name"].tolist() == ["o/kernel"]
    reasons = report.skipped.set_index("name")["reason"]
    assert reasons["q/lora"] == "an adapter of rank 0: it adds nothing"


def test_axes_that_are_given_hold_for_the_base_too():
    W, U = normal(2, 60, 40), normal(2, 60, 40)
    axes = {"scrambled": sr.MatrixAxes()}
    report = measured({"scrambled": W + U}, {"module": {"scrambled": W}}, axes=axes)
    assert report.layers["index"].tolist() == ["0", "1"]
    for place, row in enumerate(report.layers.to_dict("records")):
        assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(U[place]), rel=1e-5)


def test_bad_bases_and_the_command_line(tmp_path, capsys):
    W = normal(60, 40)
    save_file({"a.weight": W}, tmp_path / "base.safetensors")
    save_file({"a.weight": 1.5 * W}, tmp_path / "tuned.safetensors")
    with pytest.raises(
        ValueError, match="base shares no weight with the model, which has b/kernel"
    ):
        measured({"b": {"kernel": W}}, tmp_path / "base.safetensors")
    with pytest.raises(FileNotFoundError):
        measured({"b": {"kernel": W}}, tmp_path / "nothing.safetensors")
    arguments = ["evaluate", str(tmp_path / "tuned.safetensors"), "--base"]
    assert main([*arguments, str(tmp_path / "base.safetensors"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["layers"][0]
    assert row["change_share"] == pytest.approx(0.5)
    assert row["change_overlap"] == pytest.approx(1, abs=1e-6)
    page = str(tmp_path / "a.html")
    assert main([*arguments, str(tmp_path / "base.safetensors"), "--html", page]) == 0
    with open(page, encoding="utf-8") as file:
        assert "These are 1 changes from a base, not weights, of 0.5 to 0.5" in file.read()
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "nothing.safetensors")]) == 1
    assert "no checkpoint file" in capsys.readouterr().err

    out = tmp_path / "out"
    measured(tmp_path / "tuned.safetensors", tmp_path / "base.safetensors", out=out)
    with pytest.raises(ValueError, match="differ in"):
        measured(
            tmp_path / "tuned.safetensors", tmp_path / "tuned.safetensors", out=out, resume=True
        )
    with pytest.raises(ValueError, match="differ in"):
        fitting.evaluate(tmp_path / "tuned.safetensors", out=out, resume=True, progress=False)
