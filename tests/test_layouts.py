"""How weights are laid out, from names and shapes: each layout against its matrices cut by hand."""

import numpy as np
import pytest
from layouts import assert_is_spectrum_of, measured, normal, tensor

import fitting
import spectral_reg as sr


def test_stacked_experts():
    stored = normal(3, 20, 12)
    weights = {
        "mlp/experts/down_proj": stored,
        "moe/experts/kernel": stored,
        "torch/experts/kernel": tensor(stored, origin="torch.experts.weight"),
        "mlp/experts/down_proj_bias": normal(3, 12),
    }
    kinds, found, skipped = measured(weights)
    assert set(skipped) == {"mlp/experts/down_proj_bias"}
    assert set(kinds.values()) == {"experts"}
    for name in kinds:
        for expert in range(3):
            assert_is_spectrum_of(found[name, str(expert)], stored[expert])


def test_convolutions_of_one_dimension_are_told_from_stacks():
    W = normal(3, 8, 12)
    kinds, found, _ = measured(
        {"a/kernel": tensor(W, kind="conv"), "b/kernel": W, "conv_1/kernel": W},
        conv="flatten",
    )
    assert kinds == {"a/kernel": "conv", "b/kernel": "stack", "conv_1/kernel": "conv"}
    for name in ("a/kernel", "conv_1/kernel"):
        assert_is_spectrum_of(found[name, ""], W.reshape(24, 12))
    assert_is_spectrum_of(found["b/kernel", "2"], W[2])


def test_grouped_depthwise_and_transposed_convolutions():
    grouped, depthwise, turned = normal(3, 3, 4, 12), normal(3, 3, 1, 16), normal(3, 3, 12, 4)
    weights = {
        "grouped/kernel": tensor(grouped, kind="conv", groups=2),
        "depthwise/kernel": tensor(depthwise, kind="conv", groups=16),
        "turned/kernel": tensor(turned, kind="conv_transpose", groups=2),
        "bare/kernel": depthwise,
    }
    kinds, found, _ = measured(weights)
    assert kinds["turned/kernel"] == "conv_transpose"
    assert_is_spectrum_of(found["grouped/kernel", "1,2,0"], grouped[2, 0, :, 6:])
    assert_is_spectrum_of(found["turned/kernel", "1,2,0"], turned[2, 0, 6:])
    for name in ("depthwise/kernel", "bare/kernel"):
        assert_is_spectrum_of(found[name, ""], depthwise.reshape(9, 16))
    _, found, _ = measured({"grouped/kernel": weights["grouped/kernel"]}, conv="pooled")
    assert found["grouped/kernel", ""].squared_norms.size == 18
    assert found["grouped/kernel", ""].eigenvalues.size == 18 * 4


def test_separable_convolution_of_keras():
    depthwise, pointwise = normal(3, 3, 8, 2), normal(1, 1, 16, 12)
    kinds, found, _ = measured({"s/depthwise_kernel": depthwise, "s/pointwise_kernel": pointwise})
    assert_is_spectrum_of(found["s/depthwise_kernel", ""], depthwise.reshape(9, 16))
    assert_is_spectrum_of(found["s/pointwise_kernel", "0,0"], pointwise[0, 0])
    assert set(kinds.values()) == {"dense", "conv"}


@pytest.mark.parametrize("window", [(2, 3), (5, 2)])
def test_convolution_of_whole_inputs(float64, window):
    kernel, size = normal(*window, 4, 6), (4, 5)
    _, found, _ = measured(
        {"c/kernel": kernel, "fc/kernel": normal(9, 7)}, conv=sr.conv_operator(4, 5)
    )
    expected = np.asarray(sr.conv_operator(*size)(kernel))
    np.testing.assert_allclose(found["c/kernel", ""].eigenvalues, expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"window of 'c/kernel' has 2 axes"):
        measured({"c/kernel": kernel}, conv=sr.conv_operator(8))


def test_what_is_no_weight_matrix_says_why():
    by_name = "its name is not that of a weight matrix"
    weights = {
        "vit/class_token": (normal(1, 1, 8), by_name),
        "vit/pos_embed": (normal(1, 17, 8), by_name),
        "swin/relative_position_bias_table": (normal(49, 4), by_name),
        "t5/relative_attention_bias/embedding": (normal(32, 8), by_name),
        "mamba/A_log": (normal(16, 8), by_name),
        "layers/norm/weight": (normal(4, 8), "the scale of a normalization"),
        "layers/ln_1/weight": (normal(12, 64), "the scale of a normalization"),
        "q/kernel": (np.ones((8, 8), np.int8), "of type int8, as quantized weights are"),
        "c/kernel": (np.ones((8, 8), complex), "of type complex128"),
        "e/kernel": (np.ones((0, 8)), "empty: its values are in another file"),
        "x/parametrizations/weight/original": (
            normal(4, 4), "reparametrized in a way that its names do not tell"
        ),
        "bias": (normal(8), "a scalar or a vector"),
        "meta/kernel": (tensor(normal(4, 4), reason="on the meta device"), "on the meta device"),
    }  # fmt: skip
    _, found, skipped = measured({name: weight for name, (weight, _) in weights.items()})
    assert not found
    assert skipped == {name: reason for name, (_, reason) in weights.items()}


def test_axes_given_override_names_and_layouts():
    W = normal(4, 10, 3)
    axes = {"heads/w_o": sr.MatrixAxes(rows=1, cols=(0, 2))}
    params = {"heads": {"w_o": W}, "fc": {"kernel": normal(12, 11)}}
    report = fitting.evaluate(params, axes=axes, progress=False)
    top = np.linalg.svd(W.transpose(1, 0, 2).reshape(10, 12), compute_uv=False)[0]
    layers = report.layers.set_index("name")
    assert layers.loc["heads/w_o", "spectral_norm"] == pytest.approx(top)
    with pytest.raises(ValueError, match="matches no path"):
        fitting.evaluate(params, axes={"nothing": sr.MatrixAxes()}, progress=False)


@pytest.mark.parametrize("shape", [(900, 200), (150, 300)])
def test_large_matrices_are_decomposed_in_blocks_alike(monkeypatch, shape):
    W = normal(*shape).astype(np.float32)
    W[5, 7] = np.nan
    good = normal(*shape).astype(np.float32)
    monkeypatch.setattr("fitting._evaluation._eigenvalues.BATCH_BYTES", 100)
    for whole in (2**28, 100):
        monkeypatch.setattr("fitting._evaluation._eigenvalues.WHOLE_BYTES", whole)
        _, found, _ = measured({"fc/kernel": np.array([good, W])})
        assert_is_spectrum_of(found["fc/kernel", "0"], good.astype(float))
        assert np.isnan(found["fc/kernel", "1"].eigenvalues).all()


def test_signalling_nan_warns_of_nothing():
    W = normal(20, 20).astype(np.float32)
    W.view(np.uint32)[3, 3] = 0x7F800001
    _, found, _ = measured({"fc/kernel": W})
    assert np.isnan(found["fc/kernel", ""].eigenvalues).all()
