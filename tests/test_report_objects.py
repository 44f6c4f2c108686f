"""A report as an object: what it prints, what it equals, its spectra and figures."""

import io

import numpy as np
import pytest
from layouts import normal

import fitting


@pytest.fixture(scope="module")
def report():
    # Of its own seed: what `normal` gives depends on the tests before, and not all of it is fitted.
    rng = np.random.default_rng(0)
    weights = {f"blk[{n}]": {"kernel": rng.normal(size=(60, 40))} for n in range(3)}
    return fitting.evaluate(weights | {"odd": {"table": rng.normal(size=(30, 20))}}, progress=False)


def test_it_prints_a_few_lines(report):
    lines = repr(report).splitlines()
    assert lines[0] == "Report of 3 matrices in 3 layers, convolutions as slices"
    assert "7.7% of the values in tensors of two or more axes were not measured" in lines[3]
    assert "odd/table" in lines[3]
    assert len(lines) <= 6
    assert max(map(len, lines)) < 160


def test_a_notebook_shows_a_table(report):
    html = report._repr_html_()
    assert "<table" in html
    assert "blk[2]/kernel" in html
    many = fitting.evaluate({f"{n}": {"kernel": normal(12, 11)} for n in range(30)}, progress=False)
    assert "and 10 more rows" in many._repr_html_()


def test_what_is_saved_and_read_is_equal(report, tmp_path):
    loaded = fitting.load_report(report.save(tmp_path / "report.json"))
    assert loaded == report
    assert loaded != fitting.evaluate({"a": {"kernel": normal(60, 40)}}, progress=False)
    assert report != "a report"
    assert loaded.summary == report.summary


def test_a_spectrum_by_its_name(report):
    W = normal(3, 3, 12, 14)
    conv = fitting.evaluate({"conv": {"kernel": W}}, progress=False)
    expected = np.linalg.svd(W[1, 2], compute_uv=False) ** 2
    np.testing.assert_allclose(conv.spectrum("conv/kernel", "1,2"), expected)
    assert report.spectrum("blk[1]/kernel").size == 40
    with pytest.raises(KeyError, match=r"name is 'fc'; expected one of 'blk\[0\]/kernel'"):
        report.spectrum("fc")
    with pytest.raises(KeyError, match="index is ''; expected one of '0,0', '0,1'"):
        conv.spectrum("conv/kernel")


def test_figures_without_a_folder(report):
    figures = report.plot(progress=False)
    assert [type(figure).__name__ for figure in figures] == ["Figure"] * 3


def test_layers_are_chosen_as_they_are_for_an_evaluation(report, tmp_path):
    """By a path itself, whatever brackets it has, or by a pattern."""
    for patterns, number in (
        (["blk[0]/kernel"], 1),
        (["blk*"], 3),
        (["blk[[]1]/*", "blk[2]/kernel"], 2),
    ):
        *_, spectra = report.plot(layers=patterns, progress=False)
        assert len(spectra.axes) >= 2 * number
    with pytest.raises(
        ValueError, match=r"the pattern 'blk\[7\]/kernel' of layers matches no path"
    ):
        report.plot(tmp_path / "none", layers=["blk[0]/kernel", "blk[7]/kernel"], progress=False)
    assert not (tmp_path / "none").exists()


def test_a_matrix_is_a_model():
    W = normal(60, 40)
    expected = np.linalg.svd(W, compute_uv=False) ** 2
    np.testing.assert_allclose(fitting.evaluate(W, progress=False).spectrum("matrix"), expected)
    np.testing.assert_allclose(fitting.evaluate({"W": W}, progress=False).spectrum("W"), expected)
    both = fitting.evaluate({"A": W, "B": W[:30], "c": normal(3)}, progress=False)
    np.testing.assert_allclose(both.spectrum("A"), expected)
    assert set(both.layers["name"]) == {"A", "B"}
    torch = pytest.importorskip("torch", reason="needs torch")
    live = fitting.evaluate(torch.from_numpy(W), progress=False)
    np.testing.assert_allclose(live.spectrum("matrix"), expected)


def test_the_share_that_is_left_out():
    weights = {"fc.weight": normal(30, 20), "odd_table": normal(50, 4, 2), "b": normal(9)}
    report = fitting.evaluate(weights, progress=False)
    assert report.summary["share_left_out"] == pytest.approx(400 / 1000)
    assert report.summary["largest_left_out"] == ["odd_table"]
    asked = fitting.evaluate(weights | {"no.weight": normal(9, 9)}, layers=["fc/*"], progress=False)
    assert asked.summary["share_left_out"] == pytest.approx(0.4)
    W = normal(30, 20)
    tied = fitting.evaluate({"a": {"kernel": W}, "b": {"kernel": W}}, progress=False)
    assert tied.summary["share_left_out"] == 0
    assert tied.summary["largest_left_out"] == []
    lora = {"q/lora_A/weight": normal(4, 30), "q/lora_B/weight": normal(20, 4), "t": normal(20, 10)}
    report = fitting.evaluate(lora, progress=False)
    assert report.summary["share_left_out"] == pytest.approx(0.5)


def test_what_would_cut_a_fused_weight_is_said():
    report = fitting.evaluate({"h.0.attn.qkv_proj.weight": normal(60, 20)}, progress=False)
    assert "config.json beside the weights" in repr(report)


@pytest.mark.parametrize("width", [80, 60])
def test_tables_break_no_number_and_no_name(width):
    from rich.console import Console

    from fitting._command._report_table import show

    name = "model/language_model/decoder/layers/{}/self_attention/query_projection/kernel"
    weights = {name.format(n): normal(60, 40) for n in range(2)} | {
        "conv/kernel": normal(3, 3, 12, 14)
    }
    console = Console(width=width, record=True, file=io.StringIO())
    show(fitting.evaluate(weights, progress=False), console)
    table = console.export_text().split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= width
    assert len(table) == 2 + 3
    assert all("/" not in line or "…" in line or "conv" in line for line in table)
    assert any(line.startswith("conv") and "9 of 12x14" in line for line in table) or width < 80


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("a/b/c", 10, "a/b/c"),
        ("model/layers/0/attention/query", 20, "model/…/0/…/query"),
        ("layers/10/self_attn/q_proj", 23, "layers/10/…/q_proj"),
        ("model/layers/0/attention/query", 12, "…/0/…/query"),
        ("model/layers/0/attention/query", 9, "…/query"),
        ("a_name_of_one_part_alone", 10, "…art_alone"),
    ],
)
def test_names_are_elided_between_their_parts(name, width, expected):
    from fitting._command._tables import elide

    assert elide(name, width) == expected
    assert len(elide(name, width)) <= width


def test_a_folder_holds_all_that_a_person_wants(tmp_path, capsys):
    from safetensors.numpy import save_file

    from fitting._command import main

    save_file({"fc.weight": normal(60, 40)}, tmp_path / "a.safetensors")
    out = tmp_path / "new" / "out"
    options = [
        "--out",
        str(out),
        "--html",
        str(out / "x.html"),
        "--weightwatcher",
        str(out / "deep" / "ww.csv"),
    ]
    assert main(["evaluate", str(tmp_path / "a.safetensors"), *options]) == 0
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"report.json", "report.html", "table.csv", "x.html", "deep/ww.csv"} <= found
    assert "figures/spectra_001.png" in found
    assert "fc/kernel" in (out / "table.csv").read_text()
    assert "fc" in capsys.readouterr().out
    missing = tmp_path / "missing" / "x.html"
    assert main(["evaluate", str(tmp_path / "a.safetensors"), "--html", str(missing)]) == 1
    assert (
        main(["evaluate", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "bad")]) == 1
    )
    assert not (tmp_path / "bad").exists()
