"""A report's summary, table and figures."""

import math

import numpy as np
import pytest

import fitting

RNG = np.random.default_rng(0)


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
    assert all(math.isnan(x) for name, x in summary.items() if not name.startswith("num_"))


def test_saved_report_says_what_a_convolution_was(tmp_path):
    report = fitting.evaluate({"conv": PARAMS["conv"]}, conv="pooled", progress=False)
    assert fitting.load_report(report.save(tmp_path / "r.json")).conv == report.conv == "pooled"
