"""A model over training: its checkpoints found, measured once a content, resumed, and shown."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

import fitting
from fitting._command import main
from fitting._series import _follow
from fitting._series._steps import find_checkpoints


def run_of(num_steps=6, seed=0):
    """A layer that learns a spike, a frozen one, one that is scaled up, and a vector."""
    rng = np.random.default_rng(seed)
    noise, frozen, heavy = rng.normal(size=(3, 90, 70)).astype(np.float32)
    heavy = rng.standard_t(2.5, (90, 70)).astype(np.float32)
    spike = np.outer(rng.normal(size=90), rng.normal(size=70)).astype(np.float32) / 10
    return {
        100 * t: {
            "fc.weight": noise + t * spike,
            "frozen.weight": frozen,
            "scaled.weight": (1 + t / 10) * heavy,
            "fc.bias": noise[0],
        }
        for t in range(num_steps)
    }


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    for step, weights in run_of().items():
        save_file(weights, place / f"model_step{step}.safetensors")
    return place


def followed(checkpoints, **options):
    options = {"num_bootstrap": 50} | options
    return fitting.follow(checkpoints, progress=False, **options)


def test_rows_are_those_of_evaluate_at_each_step(folder):
    series = followed(folder)
    assert series.steps == [0, 100, 200, 300, 400, 500]
    for step in (0, 500):
        path = folder / f"model_step{step}.safetensors"
        report = fitting.evaluate(path, num_bootstrap=50, progress=False)
        rows = series.layers[series.layers["step"] == step].drop(columns="step")
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), report.layers)
    assert set(series.skipped["name"]) == {"fc/bias"}
    assert len(series.skipped) == 6
    assert repr(series) == "Series of 3 matrices at 6 checkpoints, steps 0 to 500"


def test_trends_and_words_tell_what_changed_and_what_did_not(folder):
    series = followed(folder)
    trends = series.trends().set_index(["name", "quantity"])
    norm = trends.loc[("scaled/kernel", "spectral_norm")]
    assert norm["change"] == pytest.approx(0.5 * norm["first"], rel=1e-5)
    assert norm["q_value"] < 1e-3
    # Scaling changes no shape.
    assert trends.loc[("scaled/kernel", "stable_rank"), "p_value"] > 0.05
    assert trends.loc[("frozen/kernel", "spectral_norm"), ["change", "p_value"]].tolist() == [0, 1]
    assert trends.loc[("fc/kernel", "stable_rank"), "change"] < 0
    assert 0 < trends.loc[("scaled/kernel", "alpha"), "tail_share"] <= 1
    words = " ".join(series.reading)
    assert "1 matrices are the same at every checkpoint" in words
    assert "Spectral norm, the largest singular value, falls in 0 and rises in 2 of 3" in words
    with pytest.raises(ValueError, match="quantities has 'beta'; expected of "):
        series.trends(["beta"])


def test_the_first_alphas_of_noise_are_not_to_be_read():
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(2, 300, 300)))[0]
    noise = rng.normal(size=(300, 300))
    tail = (1 - (np.arange(300) + 0.5) / 300) ** (-1 / 1.5)
    heavy = 30 * (left * np.sqrt(tail)) @ right
    run = {t: {"w": {"kernel": noise if t < 3 else heavy}} for t in range(5)}
    series = followed(run, num_bootstrap=200)
    first = series.layers.loc[0]
    assert first["p_value"] < 0.05
    text = next(text for text in series.reading if "fit no tail" in text)
    highest = series.layers["alpha"][:3].max()
    assert f"p < 0.05: do not read {highest:.3g} in w as a power law" in text
    assert "there the first that may be one is at checkpoint 4 of 5" in text


def test_each_content_is_measured_once_and_a_killed_series_goes_on(folder, tmp_path, monkeypatch):
    measured, opened = [], []
    real, real_open = _follow.measure_unit, _follow.open_plan

    def count(unit, **options):
        if len(measured) == 9 and not stop:
            raise OSError("disk gone")
        measured.append(unit.name)
        return real(unit, **options)

    def opening(model, **options):
        opened.append(model)
        return real_open(model, **options)

    monkeypatch.setattr(_follow, "measure_unit", count)
    monkeypatch.setattr(_follow, "open_plan", opening)
    stop = False
    out = tmp_path / "out"
    with pytest.raises(OSError, match="disk gone") as error:
        followed(folder, out=out)
    assert "at step" in error.value.__notes__[-1]
    stop = True
    with pytest.raises(
        ValueError, match="which holds a series already; expected a new folder, or resume"
    ):
        followed(folder, out=out)
    opened.clear()
    series = followed(folder, out=out, resume=True)
    # Six steps of two layers that change, and one that does not.
    assert len(measured) == 13
    assert measured.count("frozen/kernel") == 1
    assert len(opened) < 6
    opened.clear()
    again = followed(folder, out=out, resume=True)
    assert not opened
    for table in ("layers", "tails", "skipped"):
        pd.testing.assert_frame_equal(getattr(series, table), getattr(again, table))
    loaded = fitting.load_series(out / "series.json")
    pd.testing.assert_frame_equal(loaded.layers, series.layers)
    pd.testing.assert_frame_equal(loaded.trends(), series.trends())
    with pytest.raises(ValueError, match="other options: num_bootstrap was 50, is 7"):
        followed(folder, out=out, resume=True, num_bootstrap=7)

    some = next((out / "matrices").iterdir())
    some.write_bytes(some.read_bytes()[:50])
    pd.testing.assert_frame_equal(followed(folder, out=out, resume=True).layers, series.layers)


def test_a_changed_file_is_read_again(folder, tmp_path):
    out = tmp_path / "out"
    followed(folder, out=out)
    weights = run_of(seed=1)[500]
    save_file(weights, folder / "model_step500.safetensors")
    series = followed(folder, out=out, resume=True)
    rows = series.layers[series.layers["step"] == 500].set_index("name")
    top = np.linalg.svd(weights["fc.weight"].astype(float), compute_uv=False)[0]
    assert rows.loc["fc/kernel", "spectral_norm"] == pytest.approx(top)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["checkpoint-500", "checkpoint-1000"], [500, 1000]),
        (["global_step2", "global_step10"], [2, 10]),
        (["0", "8"], [0, 8]),
        (["epoch=1-step=300.ckpt.safetensors", "epoch=2-step=200.safetensors"], [200, 300]),
        (["model_7.safetensors", "b_6.safetensors"], [6, 7]),
    ],
)
def test_steps_are_read_from_names(tmp_path, names, steps):
    for name in names:
        path = tmp_path / name
        if "safetensors" not in name:
            path.mkdir()
            path /= "model.safetensors"
        save_file({"a.weight": np.eye(4, dtype=np.float32)}, path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "notes_3.txt").write_text("no checkpoint")
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)] == steps


def test_orbax_steps(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step, weights in run_of(3).items():
            manager.save(step, args=ocp.args.StandardSave(weights))
        manager.wait_until_finished()
    series = followed(tmp_path / "run", num_bootstrap=0)
    assert series.steps == [0, 100, 200]
    assert len(series.layers) == 9


def test_lists_models_in_memory_and_bad_input(tmp_path, folder):
    run = list(run_of(4).values())
    trees = [{name.replace(".weight", ""): {"kernel": W} for name, W in w.items() if W.ndim > 1}
             for w in run]  # fmt: skip
    series = followed(trees, num_bootstrap=0)
    assert series.steps == [0, 1, 2, 3]
    assert followed({3: trees[0], 9: trees[1]}, num_bootstrap=0).steps == [3, 9]
    with pytest.raises(ValueError, match="checkpoints has 1 of them; expected at least 2"):
        followed(trees[:1])
    (tmp_path / "twice").mkdir()
    for name in ("a_5.safetensors", "b_5.safetensors"):
        save_file({"a.weight": np.eye(4)}, tmp_path / "twice" / name)
    with pytest.raises(ValueError, match="at step 5; expected one a step"):
        followed(tmp_path / "twice")
    with pytest.raises(ValueError, match="checkpoints share no matrix: step 0 has 'a/kernel'"):
        followed([{"a": {"kernel": np.eye(20)}}, {"b": {"kernel": np.eye(20)}}])
    with pytest.raises(TypeError, match="checkpoints is a int; expected a folder"):
        followed(3)
    with pytest.raises(TypeError, match="other keys than steps"):
        followed({"a": trees[0], "b": trees[1]})
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        followed(tmp_path / "nowhere")
    (folder / "checkpoint-900").mkdir()
    with pytest.raises(ValueError, match="checkpoint-900 holds no checkpoint"):
        followed(folder)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected what Series\.save wrote"):
        fitting.load_series(tmp_path / "x.json")


def test_a_figure_shows_alpha_stable_rank_and_phase_of_every_matrix(folder, tmp_path, monkeypatch):
    series = fitting.follow(folder, num_bootstrap=0, progress=False)
    saved = {}
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, path: saved.setdefault(path.name, figure), raising=True
    )
    series.plot(tmp_path)
    panels = saved["alpha_001.png"].axes
    groups = [table for _, table in series.matrices()]
    assert len(panels) == 2 * len(groups)
    for place, table in enumerate(groups):
        alpha, rank = panels[2 * place : 2 * place + 2]
        fitted = table[table["valid"]]
        np.testing.assert_array_equal(alpha.lines[0].get_ydata(), fitted["alpha"].clip(upper=10))
        assert sum(len(line.get_xdata()) for line in alpha.lines[1:]) == len(fitted)
        np.testing.assert_array_equal(rank.lines[0].get_ydata(), table["stable_rank"])


def test_page_figures_and_command_line(folder, tmp_path, capsys):
    page = tmp_path / "run.html"
    arguments = ["follow", str(folder), "--num-bootstrap", "20", "--html", str(page)]
    assert main([*arguments, "--plot", str(tmp_path / "figures")]) == 0
    printed = capsys.readouterr().out
    assert "scaled" in printed
    assert "1 matrices are the same" in printed
    assert max(map(len, printed.splitlines())) <= 80
    html = page.read_text(encoding="utf-8")
    assert html.count("<tbody data-name") == 3
    assert html.count("<svg") == 4
    assert "@@" not in html
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["alpha_001.png", "phases.png"]
    out = tmp_path / "out"
    arguments = ["follow", str(folder), "--json", "--num-bootstrap", "0", "--out", str(out)]
    assert main([*arguments, "--html", str(out / "pages" / "run.html")]) == 0
    for name in (
        "series.json",
        "series.html",
        "trends.csv",
        "figures/phases.png",
        "pages/run.html",
    ):
        assert (out / name).is_file()
    assert len(json.loads(capsys.readouterr().out)["layers"]) == 18
    assert main(["follow", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["follow", str(folder), "--resume"]) == 1


def test_a_page_shows_names_as_they_are(tmp_path):
    name = "<script>alert(1)</script>"
    rng = np.random.default_rng(0)
    run = [{name: {"kernel": rng.normal(size=(30, 20))}} for _ in range(4)]
    html = followed(run).to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert name not in html
    assert "&lt;script&gt;" in html
