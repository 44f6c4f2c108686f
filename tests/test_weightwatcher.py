"""The WeightWatcher view of a report against WeightWatcher 0.7.7's own tables."""

import math

import numpy as np
import pandas as pd
import pytest
from draws import RNG

import fitting

PARAMS = {
    "conv": {"kernel": RNG.standard_normal((3, 3, 16, 24))},
    "stem": {"kernel": RNG.standard_normal((3, 3, 3, 16))},
    "fc": {"kernel": RNG.standard_normal((12, 64))},
    "nan": {"kernel": np.full((20, 20), np.nan)},
    "zero": {"kernel": np.zeros((20, 20))},
}


def table(*, conv="slices", pool=True):
    return fitting.evaluate(PARAMS, conv=conv, progress=False).to_weightwatcher(pool=pool)


@pytest.mark.parametrize(
    ("reference", "model", "pool", "num_rows", "num_fitted"),
    [
        ("ww_distiller_dense", "checkpoint_trained_dense", True, 22, 22),
        ("ww_distiller_dense_slices", "checkpoint_trained_dense", False, 165, 165),
        (
            "ww_distiller_4D_ft",
            "checkpoint_trained_4D_regularized_5Lremoved_finetuned",
            True,
            22,
            17,
        ),
    ],
)
def test_every_column_is_weightwatchers(checkpoints, reference, model, pool, num_rows, num_fitted):
    """To 1e-6: theirs are singular values in single precision."""
    pytest.importorskip("torch", reason="needs torch")
    theirs = pd.read_csv(checkpoints / "reference" / f"{reference}.csv")
    theirs["warning"] = theirs["warning"].fillna("")
    report = fitting.evaluate(
        checkpoints / "distiller_resnet20" / f"{model}.pth.tar", progress=False
    )
    ours = report.to_weightwatcher(pool=pool)
    assert ours.columns.tolist() == theirs.columns.tolist()
    key = ["longname"] if pool else ["longname", "slice_id"]
    theirs = theirs.set_index(key)
    ours = ours.set_index(key).loc[theirs.index]
    assert len(theirs) == num_rows
    assert (ours["status"] == theirs["status"]).all()
    both = theirs["status"] == "success"
    assert both.sum() == num_fitted
    # Theirs counts the norm layers between, which it does not list.
    for column in theirs.columns.drop("layer_id"):
        expected, got = theirs.loc[both, column], ours.loc[both, column]
        if pd.api.types.is_bool_dtype(expected) or not pd.api.types.is_numeric_dtype(expected):
            assert (got == expected).all(), column
        else:
            np.testing.assert_allclose(
                got.astype(float), expected, rtol=1e-6, atol=1e-6, err_msg=column
            )
    # All-zero layers: alpha -1 and alpha_weighted inf there, missing here.
    assert ours.loc[~both, ["alpha", "alpha_weighted", "D", "xmin"]].isna().all().all()


def test_pooled_and_sliced_convolutions():
    pooled, slices = table(), table(pool=False)
    assert pooled["longname"].tolist() == ["conv", "stem", "fc", "nan", "zero"]
    assert (len(pooled), len(slices)) == (5, 9 + 1 + 1 + 9 + 1)
    conv, parts = pooled.loc[0], slices[slices["longname"] == "conv"]
    assert conv["norm"] == pytest.approx((PARAMS["conv"]["kernel"] ** 2).sum() / 2)
    # The factor of a slice is rf times that of the pooled matrices.
    assert parts["norm"].sum() == pytest.approx(9 * conv["norm"])
    assert conv["sv_min"] * 3 == pytest.approx(parts["sv_min"].max())
    assert parts["slice_id"].tolist() == list(range(9))


def test_pooled_eigenvalues_do_not_say_what_belongs_to_a_slice():
    whole, pooled = table(), table(conv="pooled")
    missing = pooled[["sv_min", "rank_loss"]].isna().all(axis=1)
    assert missing.tolist() == [True, True, False, True, False]
    columns = whole.columns.drop(["sv_min", "rank_loss"])
    pd.testing.assert_frame_equal(pooled[columns], whole[columns])
    with pytest.raises(
        ValueError, match=r"pool is False and .* expected a report with conv='slices'"
    ):
        table(conv="pooled", pool=False)


def test_flattened_convolutions_are_refused():
    with pytest.raises(ValueError, match="conv is 'flatten' for"):
        table(conv="flatten")


def test_what_weightwatcher_cannot_fit_is_listed_and_missing():
    rows = table(pool=False)
    stem = rows[rows["longname"] == "stem"]
    assert (stem["num_evals"] == 3).all()
    failed = rows[rows["longname"].isin(["stem", "nan", "zero"])]
    assert (failed["status"] == "failed").all()
    assert failed["alpha"].isna().all()
    assert (failed["warning"] == "").all()
    zero = rows[rows["longname"] == "zero"].iloc[0]
    assert (zero["matrix_rank"], zero["rank_loss"], zero["weak_rank_loss"]) == (0, 20, 20)


def test_a_small_spectrum_has_weightwatchers_bias_correction():
    """12 eigenvalues: 1 + (k - 1) / sum ln(l / xmin), over tails of 8 to 12."""
    fc = table().set_index("longname").loc["fc"]
    eigenvalues = np.sort(np.linalg.svd(PARAMS["fc"]["kernel"], compute_uv=False) ** 2)
    tail = eigenvalues[eigenvalues >= fc["xmin"] * (1 - 1e-12)]
    assert tail.size == fc["num_pl_spikes"] >= 8
    assert fc["alpha"] == pytest.approx(1 + (tail.size - 1) / np.log(tail / tail[0]).sum())
    assert fc["sigma"] == pytest.approx((fc["alpha"] - 1) / math.sqrt(tail.size))
    assert fc["log_alpha_norm"] == pytest.approx(math.log10((eigenvalues ** fc["alpha"]).sum()))
