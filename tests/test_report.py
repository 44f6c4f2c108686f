"""A report's summary, table and figures."""

import json
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from draws import RNG
from matplotlib import image, pyplot
from matplotlib.figure import Figure
from safetensors.numpy import save_file

import fitting
from fitting._command import main
from fitting._reports import _spectrum_figures


def heavy(rows, cols, rng=RNG):
    """A matrix whose eigenvalues are an exact power law of exponent 2.5."""
    u, _ = np.linalg.qr(rng.standard_normal((rows, cols)))
    v, _ = np.linalg.qr(rng.standard_normal((cols, cols)))
    eigenvalues = (1 - (np.arange(cols) + 0.5) / cols) ** (-1 / 1.5)
    return (u * np.sqrt(eigenvalues)) @ v


PARAMS = {
    "conv": {"kernel": np.array([[heavy(80, 60), heavy(90, 60)[:80]]])},
    "fc": {"kernel": RNG.standard_normal((300, 100))},
    "heavy": {"kernel": 2 * heavy(300, 100)},
    "small": {"kernel": 3 * RNG.standard_normal((5, 5))},
    "zero": {"kernel": np.zeros((20, 20))},
    "nan": {"kernel": np.full((20, 20), np.nan)},
    "bias": np.zeros(3),
}


@pytest.fixture(scope="module")
def report():
    return fitting.evaluate(PARAMS, progress=False)


def test_counts(report):
    summary = report.summary
    assert summary["num_layers"] == 6
    assert summary["num_matrices"] == 7
    assert summary["num_measured"] == 5
    assert summary["num_valid"] == report.layers["valid"].sum() == 3
    assert summary["num_marchenko_pastur"] == report.layers["mp_soft_rank"].notna().sum()
    assert summary["num_skipped"] == 1


def test_a_matrix_without_a_power_law_still_has_its_norms(report):
    matrices = [
        *PARAMS["conv"]["kernel"][0],
        *(PARAMS[n]["kernel"] for n in ("fc", "heavy", "small")),
    ]
    logs = [math.log(np.linalg.norm(matrix)) for matrix in matrices]
    summary = report.summary
    assert summary["mean_log_frobenius_norm"] == pytest.approx(np.mean(logs))
    assert summary["sum_log_frobenius_norm"] == pytest.approx(np.sum(logs))
    # Eq. 5 with the convolution's slices summed: 5 matrices in 4 layers.
    assert summary["layer_mean_log_frobenius_norm"] == pytest.approx(np.sum(logs) / 4)


def test_alpha_hat_is_over_the_fitted_matrices(report):
    fitted = report.layers[report.layers["valid"]]
    alpha_hats = fitted["alpha"] * np.log(fitted["lambda_max"])
    summary = report.summary
    assert summary["sum_alpha_hat"] == pytest.approx(alpha_hats.sum())
    assert summary["mean_alpha_hat"] == pytest.approx(alpha_hats.mean())
    assert summary["mean_alpha"] == pytest.approx(fitted["alpha"].mean())


def test_published_means_are_in_log10(report):
    layers, summary = report.layers, report.summary
    measured = layers[layers["lambda_max"].notna()]
    fitted = layers[layers["valid"]]
    expected = np.mean(fitted["alpha"] * np.log10(fitted["lambda_max"]))
    assert summary["published_alpha_hat"] == pytest.approx(expected)
    expected = np.mean(np.log10(measured["lambda_max"]))
    assert summary["published_log_lambda_max"] == pytest.approx(expected)
    expected = np.mean(np.log10(measured["frobenius_norm"]))
    assert summary["published_log_frobenius_norm"] == pytest.approx(expected)
    spectra = [report.spectra[key] for key in zip(fitted["name"], fitted["index"], strict=True)]
    expected = [
        math.log10((s**alpha).sum()) for s, alpha in zip(spectra, fitted["alpha"], strict=True)
    ]
    assert summary["published_log_alpha_norm"] == pytest.approx(np.mean(expected))


def test_a_model_without_a_fit_has_a_summary():
    summary = fitting.evaluate({"zero": PARAMS["zero"]}, progress=False).summary
    assert (summary["num_matrices"], summary["num_measured"], summary["num_valid"]) == (1, 0, 0)
    numbers = [
        x for name, x in summary.items() if not name.startswith(("num_", "share", "largest"))
    ]
    assert all(map(math.isnan, numbers))


def test_saved_report_says_what_a_convolution_was(tmp_path):
    report = fitting.evaluate({"conv": PARAMS["conv"]}, conv="pooled", progress=False)
    assert fitting.load_report(report.save(tmp_path / "r.json")).conv == report.conv == "pooled"


def test_a_report_of_another_version_is_refused(report, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(report.to_dict() | {"format": 0}))
    with pytest.raises(ValueError, match=r"old\.json has format 0; expected .* evaluate again"):
        fitting.load_report(tmp_path / "old.json")


def test_plot_draws_every_matrix(report, tmp_path):
    paths = report.plot(tmp_path / "figures", progress=False)
    names = ["alpha_by_depth.png", "alpha_histogram.png", "spectra_001.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    for path in paths:
        assert image.imread(path).std() > 0.01
    many = fitting.evaluate(
        {str(i): {"kernel": RNG.standard_normal((12, 12))} for i in range(11)}, progress=False
    )
    assert many.plot(tmp_path / "many", progress=False)[-1].name == "spectra_002.png"
    few = many.plot(tmp_path / "few", layers=["1/*", "2/*"], progress=False)
    assert few[-1].name == "spectra_001.png"
    with pytest.raises(ValueError, match="the pattern 'x' of layers matches no path"):
        many.plot(tmp_path / "none", layers=["x"], progress=False)
    assert not (tmp_path / "none").exists()


def test_the_drawn_law_starts_at_xmin_with_the_share_of_the_tail(report):
    axes = Figure().subplots()
    row = report.layers.set_index("name").loc["heavy/kernel"]
    eigenvalues = report.spectra["heavy/kernel", ""]
    _spectrum_figures._draw_tail(axes, dict(row), eigenvalues)
    dots, law = axes.get_lines()[:2]
    np.testing.assert_allclose(np.sort(dots.get_xdata()), np.sort(eigenvalues))
    (x0, x1), (y0, y1) = law.get_xdata(), law.get_ydata()
    assert x0 == row["xmin"]
    assert y0 == np.mean(eigenvalues >= x0)
    assert math.log(y1 / y0) / math.log(x1 / x0) == pytest.approx(1 - row["alpha"])


def test_the_drawn_bulk_is_the_fit_of_the_report(report):
    axes = Figure().subplots()
    row = report.layers.set_index("name").loc["fc/kernel"]
    eigenvalues = report.spectra["fc/kernel", ""]
    _spectrum_figures._draw_bulk(axes, dict(row), eigenvalues)
    law, edge = axes.get_lines()[:2]
    assert edge.get_xdata()[0] == row["lambda_plus"]
    area = np.trapezoid(law.get_ydata(), law.get_xdata())
    assert area == pytest.approx(1, abs=0.02)


def test_the_conventions_explain_every_column(report):
    page = Path(__file__).parents[1] / "docs" / "conventions.md"
    explained = set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8")))
    assert set(report.layers.columns) <= explained


def test_pooled_slices_are_drawn_with_the_law_of_the_table():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 128, 64))
    kernel += 3 * rng.choice([-1, 1], (3, 3, 128, 1)) * rng.choice([-1, 1], (3, 3, 1, 64)) / 8
    report = fitting.evaluate({"conv": {"kernel": kernel}}, conv="pooled", progress=False)
    row, axes = dict(report.layers.loc[0]), Figure().subplots()
    _spectrum_figures._draw_bulk(axes, row, report.spectra["conv/kernel", ""])
    _, edge, spikes = axes.get_lines()
    assert edge.get_xdata()[0] == pytest.approx(row["lambda_plus"], rel=1e-12)
    assert len(spikes.get_xdata()) == row["num_spikes"] == 9
    law = _spectrum_figures.bulk_law(row | {"lambda_plus": math.nan}, np.ones(9 * 64))
    assert law is None


def test_no_global_state_of_matplotlib_is_touched(report, tmp_path):
    before = dict(matplotlib.rcParams)
    report.plot(tmp_path, progress=False)
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()


def test_odd_spectra_are_drawn(tmp_path):
    rng = np.random.default_rng(1)
    params = {
        "one": np.ones((1, 1)),
        "row": np.ones((1, 5)),
        "rank_one": np.outer(np.ones(40), np.ones(30)),
        "orthogonal": np.linalg.qr(rng.standard_normal((40, 40)))[0],
        "huge": 1e100 * heavy(60, 50, rng),
        "tiny": 1e-100 * heavy(60, 50, rng),
        "half_dead": rng.standard_normal((60, 50)) * (np.arange(50) < 25),
        "spiked": rng.standard_normal((90, 60)) + 5,
    }
    params = {name: {"kernel": weights} for name, weights in params.items()}
    report = fitting.evaluate(params, progress=False)
    assert len(report.plot(tmp_path, progress=False)) == 3
    page = report.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<tbody data-name") == len(params)
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', page)


def test_command_line_writes_figures_and_page(tmp_path, capsys):
    save_file({"fc.weight": PARAMS["fc"]["kernel"].T.copy()}, tmp_path / "model.safetensors")
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    options = ["--html", str(page), "--plot", str(figures), "--all"]
    assert main(["evaluate", str(tmp_path / "model.safetensors"), *options]) == 0
    assert "fc" in capsys.readouterr().out
    assert "<h1>model.safetensors</h1>" in page.read_text(encoding="utf-8")
    assert (figures / "spectra_001.png").exists()
