"""A whole model measured: rows, reasons, summary and bad arguments."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from draws import RNG
from flax import nnx

import fitting
import spectral_reg as sr

PARAMS = {
    "conv": {"kernel": RNG.standard_normal((2, 2, 60, 80)), "bias": np.zeros(80)},
    "fc": {"kernel": RNG.standard_normal((300, 100)).astype(np.float32)},
    "nan": {"kernel": np.full((20, 20), np.nan)},
    "one_nan": {"kernel": np.array([RNG.standard_normal((30, 20)), np.full((30, 20), np.nan)])},
    "zero": {"kernel": np.zeros((20, 20))},
    "small": {"kernel": RNG.standard_normal((5, 5))},
    "constant": {"kernel": np.eye(30)},
    "integer": {"kernel": np.ones((20, 20), int)},
    "other": {"matrix": np.ones((20, 20))},
}


@pytest.fixture(scope="module")
def report():
    return fitting.evaluate(PARAMS, progress=False)


def row(report, name, index=""):
    layers = report.layers
    return layers[(layers["name"] == name) & (layers["index"] == index)].iloc[0]


def test_every_tensor_is_measured_or_skipped_with_a_reason(report):
    reasons = dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))
    assert reasons == {
        "conv/bias": "a scalar or a vector",
        "integer/kernel": "of type int64",
        "other/matrix": "its name is not that of a weight matrix",
    }
    assert report.summary["num_matrices"] == 4 + 1 + 1 + 2 + 1 + 1 + 1
    assert report.summary["num_skipped"] == 3


def test_what_cannot_be_fitted_keeps_its_row_and_a_reason(report):
    for name, index, reason in (
        ("nan/kernel", "", "NaN"),
        ("one_nan/kernel", "1", "NaN"),
        ("zero/kernel", "", "zero"),
        ("small/kernel", "", "10"),
        ("constant/kernel", "", ""),
    ):
        bad = row(report, name, index)
        assert not bad["valid"]
        assert reason in bad["reason"]
        assert bad["reason"]
        assert np.isnan(bad["alpha"])
    assert np.isfinite(row(report, "one_nan/kernel", "0")["lambda_max"])


def test_columns_agree_with_the_metrics(float64, report):
    W = PARAMS["conv"]["kernel"][1, 0]
    measured = row(report, "conv/kernel", "1,0")
    for name in (
        "spectral_norm", "lambda_max", "log_frobenius_norm", "log_spectral_norm", "stable_rank",
        "log_stable_rank", "log_stable_rank_ratio", "matrix_entropy",
    ):  # fmt: skip
        assert measured[name] == pytest.approx(float(getattr(sr, name)(W)), rel=1e-10), name
    eigenvalues = np.linalg.svd(W, compute_uv=False) ** 2
    fit = fitting.fit_power_law(eigenvalues)
    if fit.valid:
        assert measured["alpha"] == fit.alpha
    phase = fitting.classify_phase(eigenvalues, W.shape)
    assert measured["phase"] == phase.phase.name
    assert measured["lambda_plus"] == phase.marchenko_pastur.lambda_plus
    assert (measured["kind"], measured["rows"], measured["cols"], measured["hard_rank"]) == (
        "conv", 60, 80, 60,
    )  # fmt: skip


def test_rank_and_entropy_of_a_low_rank_in_float32_are_those_of_its_factors():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(300, 20)), rng.normal(size=(20, 100))
    weights = (factors[0] @ factors[1]).astype(np.float32)
    row = fitting.evaluate({"fc": {"kernel": weights}}, progress=False).layers.iloc[0]
    nonzero = np.linalg.svd(factors[0] @ factors[1], compute_uv=False)[:20] ** 2
    p = nonzero / nonzero.sum()
    assert (row["hard_rank"], row["phase"]) == (20, "RANK_COLLAPSE")
    assert row["matrix_entropy"] == pytest.approx(-(p * np.log(p)).sum() / np.log(20), rel=1e-5)
    assert row["matrix_entropy"] == pytest.approx(float(sr.matrix_entropy(weights)), rel=1e-3)


@pytest.mark.parametrize(
    "W",
    [
        np.diag(np.repeat([1.0, 2.0], 20)),
        np.diag(np.repeat([1.0, 2.0, 3.0], 20)),
        np.outer(np.arange(1.0, 40), np.arange(1.0, 30)),
        np.full((30, 30), 1e200),
        RNG.standard_normal((40, 40)) * 1e-160,
        RNG.standard_normal((40, 40)) * 1e150,
        np.where(np.eye(30) > 0, np.inf, 1.0),
        RNG.standard_normal((1, 50)),
        RNG.standard_normal((50, 1)),
        RNG.standard_normal((80, 60)).astype(np.float16),
        np.full((80, 60), 6e4, np.float16),
        np.diag(np.logspace(0, -300, 60)),
        RNG.standard_cauchy((70, 60)),
    ],
    ids=range(13),
)
def test_any_matrix_has_a_row_that_is_valid_or_says_why_not(W):
    layers = fitting.evaluate({"fc": {"kernel": W}}, progress=False).layers
    assert len(layers) == 1
    assert layers.loc[0, "valid"] == (layers.loc[0, "reason"] == "")
    assert layers.loc[0, "valid"] == np.isfinite(layers.loc[0, "alpha"])
    assert (layers.loc[0, "phase"] is np.nan) or layers.loc[0, "phase_reason"]


def test_means_and_sums_are_over_valid_rows_alone(report):
    valid = report.layers[report.layers["valid"]]
    summary = report.summary
    assert 0 < len(valid) < len(report.layers)
    assert summary["num_valid"] == len(valid)
    assert summary["mean_alpha"] == pytest.approx(valid["alpha"].mean())
    assert summary["sum_alpha_hat"] == pytest.approx(
        (valid["alpha"] * np.log(valid["lambda_max"])).sum()
    )


def test_convolutions_pooled_and_flattened():
    conv = {"conv": PARAMS["conv"]}
    pooled = fitting.evaluate(conv, conv="pooled", progress=False).layers.iloc[0]
    flat = fitting.evaluate(conv, conv="flatten", progress=False).layers.iloc[0]
    slices = fitting.evaluate(conv, progress=False).layers
    assert (pooled["num_eigenvalues"], flat["num_eigenvalues"], len(slices)) == (240, 80, 4)
    assert pooled["lambda_max"] == pytest.approx(slices["lambda_max"].max())
    assert (flat["rows"], flat["cols"]) == (240, 80)


def test_nnx_model_and_bfloat16():
    model = nnx.Linear(64, 32, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    layers = fitting.evaluate(model, progress=False).layers
    assert list(layers["name"]) == ["kernel"]
    exact = np.linalg.svd(np.asarray(model.kernel[...]).astype(float), compute_uv=False)
    assert layers.loc[0, "spectral_norm"] == pytest.approx(exact[0], rel=1e-12)


def test_p_value_on_request():
    params = {"fc": {"kernel": RNG.standard_t(2, (300, 100))}}
    report = fitting.evaluate(params, num_bootstrap=50, progress=False)
    assert report.layers["valid"].all()
    assert report.layers["p_value"].between(0, 1).all()


def test_layers_by_pattern(report):
    chosen = fitting.evaluate(PARAMS, layers=["fc/*", "conv/*"], progress=False)
    assert set(chosen.layers["name"]) == {"fc/kernel", "conv/kernel"}
    assert "not among the layers asked for" in set(chosen.skipped["reason"])


def test_save_and_load(report, tmp_path):
    path = report.save(tmp_path / "report.json")
    loaded = fitting.load_report(path)
    pd.testing.assert_frame_equal(loaded.layers, report.layers, check_exact=True)
    pd.testing.assert_frame_equal(loaded.skipped, report.skipped)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    for content in (b"{}", b"[]", b"", b"\x80\xff"):
        (tmp_path / "other.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.json is no report"):
            fitting.load_report(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (PARAMS, {"conv": "sliced"}, "conv is 'sliced'; expected one of slices"),
        (PARAMS, {"num_bootstrap": -1}, "num_bootstrap is -1"),
        (PARAMS, {"layers": ["fc9/*"]}, "the pattern 'fc9/\\*' of layers matches no path"),
        ({"a": np.ones(3)}, {}, "no weight matrix to measure.* 'a': a scalar or a vector$"),
        (
            {"net": {"table": np.ones((3, 2))}},
            {},
            "not that of a weight matrix; what axes names is measured",
        ),
        ({}, {}, "of type dict without a weight matrix; expected a model"),
    ],
)
def test_bad_arguments(model, options, message):
    with pytest.raises(ValueError, match=message):
        fitting.evaluate(model, progress=False, **options)


def test_a_pattern_alone_is_no_list_of_them():
    with pytest.raises(TypeError, match=r"expected a list of patterns, \['fc/\*'\]"):
        fitting.evaluate(PARAMS, layers="fc/*", progress=False)


def test_a_tensor_alone_is_a_matrix_or_what_axes_says():
    torch = pytest.importorskip("torch", reason="needs torch")
    assert list(fitting.evaluate(torch.ones(3, 2), progress=False).layers["name"]) == ["matrix"]
    axes = {"tensor": sr.MatrixAxes()}
    assert len(fitting.evaluate(torch.ones(3, 2), axes=axes, progress=False).layers) == 1


def test_what_fails_to_be_written_leaves_nothing(report, tmp_path, monkeypatch):
    def replace(*paths):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", replace)
    for write in (report.save, report.to_html):
        with pytest.raises(OSError, match="no space left"):
            write(tmp_path / "file")
    assert not list(tmp_path.iterdir())
