"""What a checkpoint holds beside the weights, and files that were written elsewhere."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from layouts import normal
from safetensors.numpy import load_file, save_file

import fitting


def reasons(report):
    return dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))


def test_mlx_files_have_the_inputs_of_a_convolution_last(tmp_path):
    kernel, plain, line = normal(64, 3, 3, 32), normal(30, 20), normal(24, 5, 12)
    weights = {"conv.weight": kernel, "fc.weight": plain, "conv1d.weight": line}
    stack = {"mlp.switch_mlp.gate_proj.weight": normal(4, 30, 20)}
    save_file(weights | stack, tmp_path / "a.safetensors", metadata={"format": "mlx"})
    report = fitting.evaluate(tmp_path / "a.safetensors", progress=False)
    assert report.layers["name"].value_counts().to_dict() == {
        "conv/kernel": 9, "conv1d/kernel": 5, "mlp/switch_mlp/gate_proj/kernel": 4, "fc/kernel": 1,
    }  # fmt: skip
    expected = np.linalg.svd(kernel[:, 1, 2], compute_uv=False) ** 2
    np.testing.assert_allclose(report.spectra["conv/kernel", "1,2"], expected)
    expected = np.linalg.svd(line[:, 3], compute_uv=False) ** 2
    np.testing.assert_allclose(report.spectra["conv1d/kernel", "3"], expected)


def test_a_state_dict_of_arrays_is_read_as_its_file_is(tmp_path):
    save_file(
        {"layers.0.fc.weight": normal(30, 20), "norm.weight": normal(20)},
        tmp_path / "a.safetensors",
    )
    path = tmp_path / "a.safetensors"
    arrays = load_file(path)
    assert fitting.evaluate(path, progress=False).layers.equals(
        fitting.evaluate(arrays, progress=False).layers
    )
    on_device = {name: jnp.asarray(array) for name, array in arrays.items()}
    names = fitting.evaluate(on_device, progress=False).layers["name"]
    assert list(names) == ["layers/0/fc/kernel"]


def test_a_tensor_whose_values_are_elsewhere():
    report = fitting.evaluate(
        {"fc.weight": normal(30, 20), "rest.weight": np.ones((0, 20))}, progress=False
    )
    assert reasons(report) == {"rest/kernel": "empty: its values are in another file"}


@pytest.mark.parametrize("make", [np.array, jnp.asarray])
def test_one_array_under_two_names_is_measured_once(make):
    W = make(normal(30, 20))
    report = fitting.evaluate(
        {"a": {"kernel": W}, "b": {"kernel": W}, "c": {"kernel": W + 0}}, progress=False
    )
    assert list(report.layers["name"]) == ["a/kernel", "c/kernel"]
    assert reasons(report) == {"b/kernel": "the same tensor as a/kernel"}


def test_a_tied_head_is_one_array_turned():
    W = normal(60, 20)
    report = fitting.evaluate({"embed": {"embedding": W}, "head": {"kernel": W.T}}, progress=False)
    assert reasons(report) == {"head/kernel": "the same tensor as embed/embedding"}


@pytest.mark.parametrize("average", ["ema_params", "ema", "params_ema", "polyak", "avg_params"])
def test_averages_and_moments_are_no_weights(average):
    def layer():
        return {"fc": {"kernel": normal(30, 20)}}

    tree = {"params": layer(), average: layer(), "opt_state": {"0": {"mu": layer(), "nu": layer()}}}
    report = fitting.evaluate(tree, progress=False)
    assert list(report.layers["name"]) == ["params/fc/kernel"]
    found = reasons(report)
    assert found[f"{average}/fc/kernel"] == f"a moving average of the weights, under {average!r}"
    assert found["opt_state/0/nu/fc/kernel"] == "part of an optimizer's state, not a weight"
    alone = fitting.evaluate({average: layer()}, progress=False)  # all that there is
    assert list(alone.layers["name"]) == [f"{average}/fc/kernel"]


def test_shards_of_flax(tmp_path):
    from flax.serialization import msgpack_serialize

    weights = {"a": {"kernel": normal(30, 20)}, "b": {"fc": {"kernel": normal(30, 20)}}}
    for number, key in enumerate(weights):
        shard = msgpack_serialize({key: weights[key]})
        (tmp_path / f"flax_model-0000{number}-of-00002.msgpack").write_bytes(shard)
    where = {"a/kernel": "flax_model-00000-of-00002.msgpack",
             "b/fc/kernel": "flax_model-00001-of-00002.msgpack"}  # fmt: skip
    index = tmp_path / "flax_model.msgpack.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for path in (tmp_path, index):
        names = fitting.evaluate(path, progress=False).layers["name"]
        assert list(names) == ["a/kernel", "b/fc/kernel"]


def test_a_refused_object_is_named(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    path = tmp_path / "a.ckpt"
    content = {
        "hyper_parameters": {"root": pathlib.Path("x")},
        "state_dict": {"w": torch.ones(2, 2)},
    }
    torch.save(content, path)
    message = r"a\.ckpt is no readable PyTorch file: it holds an object of the class pathlib\S*Path"
    with pytest.raises(ValueError, match=message + r".*torch\.save\(model\.state_dict"):
        fitting.evaluate(path, progress=False)


def test_a_parent_named_like_a_norm_hides_nothing():
    weights = {
        "transformer_blocks.0.norm1.linear.weight": normal(38, 14),
        "norm_out.linear.weight": normal(38, 14),
        "ln_1.weight": normal(14),
    }
    assert len(fitting.evaluate(weights, progress=False).layers) == 2
    tree = {"surface_normals": {"kernel": normal(30, 20)}, "ln_1": {"weight": normal(12, 64)},
            "ConvNormAct_0": {"Conv_0": {"kernel": normal(3, 3, 12, 14)}}}  # fmt: skip
    report = fitting.evaluate(tree, progress=False)
    assert set(report.layers["name"]) == {"surface_normals/kernel", "ConvNormAct_0/Conv_0/kernel"}
    assert reasons(report) == {"ln_1/weight": "the scale of a normalization"}


def test_matrices_of_names_of_their_own():
    """XLNet's and Zamba's."""
    q, o, x = normal(64, 4, 16), normal(64, 4, 16), normal(2, 10, 24)
    weights = {"layer.0.rel_attn.q": q, "layer.0.rel_attn.o": o, "mamba.x_proj_weight": x}
    report = fitting.evaluate(weights, progress=False)
    assert len(report.skipped) == 0
    for name, W in (("q", q), ("o", o)):
        expected = np.linalg.svd(W.reshape(64, 64), compute_uv=False) ** 2
        np.testing.assert_allclose(report.spectra[f"layer/0/rel_attn/{name}", ""], expected)
    expected = np.linalg.svd(x[1], compute_uv=False) ** 2
    np.testing.assert_allclose(report.spectra["mamba/x_proj_weight", "1"], expected)
