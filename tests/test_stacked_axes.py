"""Layers stacked on some axis, and readings that would be wrong in silence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import matrix, weight

import fitting
import spectral_reg as sr


def test_the_cases_of_attention_with_names_of_its_own():
    shapes = {n: r.matrices for n, r in sr.explain_layers({
        "query_proj/kernel": weight(64, 2, 32),
        "out_proj/kernel": weight(4, 2, 32, 64),
        "mla/wq_b/kernel": weight(24, 4, 12),
        "mla/wkv_b/kernel": weight(16, 4, 14),
        "mla/out/kernel": weight(4, 8, 24),
    }).items()}  # fmt: skip
    assert shapes == {
        "mla/out/kernel": (32, 24),
        "mla/wkv_b/kernel": (16, 56),
        "mla/wq_b/kernel": (24, 48),
        "out_proj/kernel": (4, 64, 64),
        "query_proj/kernel": (64, 64),
    }


def test_plain_weights_beside_a_kernel():
    params = {"fc/kernel": weight(5, 4), "wq": weight(5, 5), "w1": weight(5, 4),
              "lora_a": weight(5, 2), "lora_b": weight(2, 4), "b1": weight(5, 4)}  # fmt: skip
    assert set(sr.layer_matrices(params)) == set(params) - {"b1"}
    net = [(weight(5, 4), weight(4)), (weight(4, 3), weight(3))]
    assert [W.shape for W in sr.layer_matrices(net).values()] == [(5, 4), (4, 3)]
    assert sr.layer_matrices(weight(5, 4))[""].shape == (5, 4)


def test_a_stack_on_the_second_axis_alone():
    W = weight(64, 6, 256)
    with pytest.raises(
        ValueError,
        match=r"'layers/mlp/kernel' is of shape \(64, 6, 256\), which reads as 64 matrices of "
        r"6 x 256; .* 6 of 64 x 256 are likelier; give axes=\{'layers/\*': Stacked\(1\)\}",
    ):
        matrix("layers/mlp/kernel", W)
    told = matrix("layers/mlp/kernel", W, axes={"layers/*": sr.Stacked(1)})
    np.testing.assert_array_equal(told, W.swapaxes(0, 1))
    assert matrix("layers/mlp/kernel", W, axes={"layers/*": sr.MatrixAxes()}).shape == W.shape
    with pytest.warns(UserWarning, match="6 of 64 x 256 are likelier.*; measured as the latter"):
        report = fitting.evaluate({"layers/mlp/kernel": W}, progress=False)
    assert list(report.layers["rows"]) == [64] * 6
    top = np.linalg.svd(W[:, 3].astype(float), compute_uv=False)[0]
    assert report.layers["spectral_norm"][3] == pytest.approx(top)


@pytest.mark.parametrize(
    "tree",
    [
        # An ensemble of small networks: its biases say so.
        {"kernel": (64, 4, 256), "bias": (64, 256)},
        {"fc": {"kernel": (12, 64, 64)}, "ln": {"scale": (12, 64)}},
        # A layer that nothing stacks, with heads as many as they are wide.
        {"query": {"kernel": (48, 6, 6), "bias": (6, 6)}, "out": {"kernel": (6, 6, 48)}},
        {"conv": {"kernel": (3, 3, 64, 128), "bias": (128,)}},
        {"experts": {"up_proj": (64, 8, 256), "down_proj": (64, 256, 8)}},
    ],
)
def test_what_is_no_cause_for_doubt(tree):
    params = jax.tree.map(lambda shape: weight(*shape), tree, is_leaf=lambda t: type(t) is tuple)
    assert sr.layer_matrices(params)
    assert not any("doubt" in reading.rule for reading in sr.explain_layers(params).values())


def test_the_leaves_around_tell_a_stack_on_the_first_axis():
    params = {
        "conv": {"kernel": weight(6, 3, 3, 8, 10), "bias": weight(6, 10)},
        "attn": {"query": {"kernel": weight(6, 10, 12)}, "post": {"kernel": weight(6, 12, 10)}},
        "ln": {"scale": weight(6, 10)},
    }
    shapes = {n: W.shape for n, W in sr.layer_matrices(params, conv="flatten").items()}
    assert shapes == {
        "attn/post/kernel": (6, 12, 10),
        "attn/query/kernel": (6, 10, 12),
        "conv/kernel": (6, 72, 10),
    }
    # Alone, the same shapes are a convolution of three axes, and heads where there may be some.
    alone = {"conv": {"kernel": params["conv"]["kernel"]}, "query": {"kernel": weight(12, 4, 8)}}
    shapes = {n: W.shape for n, W in sr.layer_matrices(alone, conv="flatten").items()}
    assert shapes == {"conv/kernel": (432, 10), "query/kernel": (12, 32)}


def test_the_bias_beside_a_kernel_has_the_axes_of_its_columns():
    layer = nn.DenseGeneral((3, 4), axis=(-2, -1))
    params = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((2, 5, 6)))["params"]
    params = {"general": params, "up": {"kernel": weight(3, 5, 6), "bias": weight(6)}}
    found = {n: (r.matrices, r.kind) for n, r in sr.explain_layers(params).items() if r.kind}
    assert found == {"general/kernel": ((30, 12), "dense"), "up/kernel": ((3, 5, 6), "conv")}
    stacked = {"fc": {"kernel": weight(3, 5, 6), "bias": weight(3, 6)}}
    assert sr.explain_layers(stacked)["fc/kernel"].kind == "stack"


def test_mild_ratios_are_told_by_the_leaves_around():
    """16 layers of width 24: 24 matrices of 16 x 40 would pass for a stack."""
    params = {"fc": {"kernel": weight(24, 16, 40), "bias": weight(40, 16)}}
    with pytest.raises(ValueError, match=r"'fc/bias' of shape \(40, 16\), and all around"):
        sr.layer_matrices(params)
    assert sr.layer_matrices(params, axes=sr.Stacked(1))["fc/kernel"].shape == (16, 24, 40)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"fc/*": sr.Stacked(3)}, r"gives 'fc/kernel' of shape \(2, 3, 4\) .*axes from -3 to 2"),
        ({"fc/*": sr.Stacked(0.5)}, "expected axes from -3 to 2"),
        ({"typo/*": None}, r"the pattern 'typo/\*' of axes matches no path"),
        ({"typo": {"fc": sr.Stacked(0)}}, "the pattern 'typo/fc' of axes matches no path"),
        ({"fc/*": sr.MatrixAxes(1, 2, batch=1)}, "expected each axis at most once"),
        ({"fc/*": sr.MatrixAxes(parts=3)}, "expected parts that divide its 4 columns"),
        ({"fc/*": sr.MatrixAxes(parts=2, groups=2)}, "expected groups or parts, not both"),
        ({"*": None}, "no leaf of two or more axes"),
    ],
)
def test_bad_axes(axes, message):
    params = {"fc": {"kernel": weight(2, 3, 4)}}
    for call in (sr.layer_matrices, sr.add_spectral_penalty(sr.alpha, 0.1, axes=axes).init):
        with pytest.raises(ValueError, match=message):
            call(params, axes=axes) if call is sr.layer_matrices else call(params)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (3, r"axes is 3; expected a dict of path patterns"),
        ("fc/*", "axes is 'fc/.*'; expected a dict"),
        ({"fc/*": 1}, r"axes has 1 for 'fc/\*'; expected MatrixAxes\(rows, cols\), Stacked"),
        ({"fc/*": "layers"}, "axes has 'layers' for"),
        ({"fc/*": (0, 1)}, r"axes has \(0, 1\) for 'fc/\*'"),
        (lambda params: 3, "axes is 3"),
    ],
)
def test_axes_of_the_wrong_type(axes, message):
    with pytest.raises(TypeError, match=message):
        sr.layer_matrices({"fc": {"kernel": weight(2, 3, 4)}}, axes=axes)


def test_parts_by_number_and_by_name():
    W = weight(6, 12)
    for parts in (3, ("gate", "up", "skip")):
        axes = {"fc/kernel": sr.MatrixAxes(parts=parts)}
        cut = matrix("fc/kernel", W, axes=axes)
        np.testing.assert_array_equal(cut, W.reshape(6, 3, 4).swapaxes(0, 1))
        report = fitting.evaluate({"fc/kernel": W}, axes=axes, progress=False)
        assert list(report.layers["index"]) == list(parts if parts != 3 else ("0", "1", "2"))
        pooled = sr.layer_spectra({"fc/kernel": W}, axes=axes, conv="pooled")["fc/kernel"]
        assert pooled.shape == (3, 4)


def test_what_a_pattern_gives_axes_to_is_taken_if_it_asks_for_it():
    params = {"a": {"odd": weight(4, 3)}, "b": {"kernel": weight(4, 3), "scale": weight(2, 4)}}
    axes = sr.MatrixAxes()
    assert list(sr.layer_matrices(params)) == ["b/kernel"]
    assert list(sr.layer_matrices(params, axes={"b/*": axes})) == ["b/kernel"]
    assert list(sr.layer_matrices(params, axes={"a/*": axes})) == ["a/odd", "b/kernel"]
    assert list(sr.layer_matrices(params, axes={"a": {"odd": axes}})) == ["a/odd", "b/kernel"]
    assert list(sr.layer_matrices(params, mask=sr.by_path("*/odd"))) == ["a/odd"]


def test_the_penalty_and_the_report_read_fused_weights_alike():
    params = {
        "attn": {"qkv": {"kernel": weight(32, 96)}, "in_proj_weight": weight(96, 32)},
        "rnn": {"kernel": weight(20, 48), "recurrent_kernel": weight(12, 48)},
        "experts": {"up_proj": weight(3, 20, 24)},
        "cell": {"weight_ih": weight(36, 20), "weight_hh": weight(36, 12)},
    }
    params = jax.tree.map(jnp.asarray, params)
    shapes = {name: W.shape for name, W in sr.layer_matrices(params).items()}
    assert shapes == {
        "attn/in_proj_weight": (3, 32, 32),
        "attn/qkv/kernel": (3, 32, 32),
        "cell/weight_hh": (3, 12, 12),
        "cell/weight_ih": (3, 20, 12),
        "experts/up_proj": (3, 20, 24),
        "rnn/kernel": (4, 20, 12),
        "rnn/recurrent_kernel": (4, 12, 12),
    }
    layers = fitting.evaluate(params, progress=False).layers
    norms = {name: sr.spectral_norm(W) for name, W in sr.layer_matrices(params).items()}
    for name, rows in layers.groupby("name"):
        np.testing.assert_allclose(rows["spectral_norm"], norms[name], rtol=1e-5)
        explained = sr.explain_layers(params)[name]
        assert list(rows["kind"]) == [explained.kind] * len(rows)
        assert list(rows["index"]) == list(explained.parts or ("0", "1", "2"))
