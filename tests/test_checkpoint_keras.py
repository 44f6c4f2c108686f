"""Keras files, in the layout that Keras 3.15 and Keras 2 write, by h5py alone."""

import io
import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from draws import RNG

import fitting
from fitting._checkpoints import open_checkpoint

h5py = pytest.importorskip("h5py", reason="needs h5py, which the tests' requirements install")


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, **config}}


CONFIG = layer(
    "Functional",
    "functional",
    layers=[
        layer("InputLayer", "image"),
        layer("Conv2D", "stem", groups=2),
        layer("DepthwiseConv2D", "depthwise_conv2d"),
        layer("SeparableConv2D", "separable_conv2d"),
        layer("Conv2DTranspose", "conv2d_transpose"),
        layer("BatchNormalization", "batch_normalization"),
        layer("Embedding", "embedding"),
        layer("MultiHeadAttention", "multi_head_attention"),
        layer("LSTM", "lstm"),
        layer("Bidirectional", "bidirectional", layer=layer("GRU", "gru")),
        layer("Sequential", "subnet", layers=[layer("Dense", "inner")]),
        layer("Dense", "head"),
    ],
)
# Group in the file, the layer's own name, and the shapes of its variables.
GROUPS = [
    ("layers/conv2d", "stem", [(3, 3, 2, 8), (8,)]),
    ("layers/depthwise_conv2d", "depthwise_conv2d", [(3, 3, 8, 2), (16,)]),
    ("layers/separable_conv2d", "separable_conv2d", [(3, 3, 6, 2), (1, 1, 12, 5), (5,)]),
    ("layers/conv2d_transpose", "conv2d_transpose", [(2, 2, 7, 5), (7,)]),
    ("layers/batch_normalization", "batch_normalization", [(7,)] * 4),
    ("layers/embedding", "embedding", [(10, 6)]),
    ("layers/multi_head_attention", "multi_head_attention", []),
    ("layers/multi_head_attention/query_dense", "query", [(6, 2, 3), (2, 3)]),
    ("layers/multi_head_attention/output_dense", "attention_output", [(2, 3, 6), (6,)]),
    ("layers/lstm", "lstm", []),
    ("layers/lstm/cell", "lstm_cell", [(6, 16), (4, 16), (16,)]),
    ("layers/bidirectional", "bidirectional", []),
    ("layers/bidirectional/forward_layer", "forward_gru", []),
    ("layers/bidirectional/forward_layer/cell", "gru_cell", [(6, 9), (3, 9), (2, 9)]),
    ("layers/sequential", "subnet", []),
    ("layers/sequential/layers/dense", "inner", [(9, 4), (4,)]),
    ("layers/dense", "head", [(4, 3), (3,)]),
    ("optimizer", "adam", [(), (4, 3)]),
]
EXPECTED = {
    "stem/kernel": ((3, 3, 2, 8), "conv", 2),
    "depthwise_conv2d/kernel": ((3, 3, 1, 16), "conv", 8),
    "separable_conv2d/depthwise/kernel": ((3, 3, 1, 12), "conv", 6),
    "separable_conv2d/pointwise/kernel": ((1, 1, 12, 5), "conv", 1),
    "conv2d_transpose/kernel": ((2, 2, 5, 7), "conv_transpose", 1),
    "embedding/embedding": ((10, 6), "embedding", 1),
    "multi_head_attention/query/kernel": ((6, 2, 3), "dense", 1),
    "multi_head_attention/query/bias": ((2, 3), "", 1),
    "multi_head_attention/out/kernel": ((2, 3, 6), "dense", 1),
    "lstm/lstm_cell/kernel": ((6, 16), "lstm", 1),
    "lstm/lstm_cell/recurrent_kernel": ((4, 16), "lstm", 1),
    "bidirectional/forward_gru/gru_cell/kernel": ((6, 9), "gru", 1),
    "bidirectional/forward_gru/gru_cell/recurrent_kernel": ((3, 9), "gru", 1),
    "bidirectional/forward_gru/gru_cell/bias": ((2, 9), "gru", 1),
    "subnet/inner/kernel": ((9, 4), "dense", 1),
    "head/kernel": ((4, 3), "dense", 1),
}


def write_weights(file, *, with_names=True):
    for group, name, shapes in GROUPS:
        variables = file.create_group(f"{group}/vars")
        if with_names:
            variables.attrs["name"] = name
        for index, shape in enumerate(shapes):
            variables[str(index)] = RNG.standard_normal(shape).astype(np.float32)


def keras_file(path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_weights(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(CONFIG))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return path


def described(tensors):
    return {
        name: (tensor.shape, tensor.kind, tensor.groups)
        for name, tensor in tensors.items()
        if tensor.ndim > 1 and not tensor.reason
    }


def test_keras_3_files(tmp_path):
    tensors = open_checkpoint(keras_file(tmp_path / "a.keras"))
    assert described(tensors) == EXPECTED
    assert [name for name in described(tensors) if name.endswith("/kernel")][-1] == "head/kernel"
    assert "part of an optimizer's state" in tensors["optimizer/vars/1"].reason
    assert "batch_normalization/moving_mean" in tensors
    for tensor in tensors.values():
        if not tensor.reason:
            values = pickle.loads(pickle.dumps(tensor)).read()
            assert (values.shape, values.dtype.name) == (tensor.shape, tensor.dtype)
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        raw = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(raw) as file:
        up = file["layers/conv2d_transpose/vars/0"][()]
        depthwise = file["layers/depthwise_conv2d/vars/0"][()]
    np.testing.assert_array_equal(tensors["conv2d_transpose/kernel"].read(), up.swapaxes(2, 3))
    # Output 2 i + j of a depthwise convolution is input i by its multiplier j.
    read = tensors["depthwise_conv2d/kernel"].read()
    np.testing.assert_array_equal(read[:, :, 0, 2 * 5 + 1], depthwise[:, :, 5, 1])


def test_weights_without_a_configuration_are_known_by_their_groups(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        write_weights(file)
    tensors = described(open_checkpoint(tmp_path / "a.weights.h5"))
    # The groups of an ordinary convolution are in the configuration alone.
    assert tensors == EXPECTED | {"stem/kernel": ((3, 3, 2, 8), "conv", 1)}


def test_early_keras_3_files_have_no_names_of_layers(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        write_weights(file, with_names=False)
    tensors = described(open_checkpoint(tmp_path / "a.weights.h5"))
    assert tensors["conv2d/kernel"] == ((3, 3, 2, 8), "conv", 1)
    assert tensors["sequential/dense/kernel"] == ((9, 4), "dense", 1)
    assert tensors["multi_head_attention/out/kernel"] == ((2, 3, 6), "dense", 1)


def test_layers_that_share_a_name_are_told_apart_by_their_groups(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for group in ("first", "second"):
            file[f"{group}/vars/0"] = np.ones((4, 3))
            file[f"{group}/vars"].attrs["name"] = "dense"
    kinds = {name: kind for name, (_, kind, _) in
             described(open_checkpoint(tmp_path / "a.weights.h5")).items()}  # fmt: skip
    assert kinds == {"first/kernel": "dense", "second/kernel": "dense"}


def test_configurations_of_a_user_s_own_classes_are_passed_over(tmp_path):
    own = {"class_name": "Own", "config": {"layers": 3, "layer": "text"}}
    config = layer("Functional", "functional", layers=[own, 5, {"class_name": "Bare"}])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file["dense/dense/kernel"] = np.ones((4, 3))
    assert described(open_checkpoint(tmp_path / "a.h5")) == {"dense/kernel": ((4, 3), "dense", 1)}


def test_old_h5_files(tmp_path):
    datasets = {
        "stem/stem/kernel:0": (3, 3, 2, 8),
        "depthwise_conv2d/depthwise_conv2d/depthwise_kernel:0": (3, 3, 8, 2),
        "conv2d_transpose/conv2d_transpose/kernel:0": (2, 2, 7, 5),
        "embedding/embedding/embeddings:0": (10, 6),
        "lstm/lstm/lstm_cell/kernel:0": (6, 16),
        "subnet/inner/kernel:0": (9, 4),
        "head/head/kernel:0": (4, 3),
    }
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(CONFIG)
        for name, shape in datasets.items():
            file[f"model_weights/{name}"] = np.ones(shape)
        file["optimizer_weights/Adam/head/kernel/m:0"] = np.ones((4, 3))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name, shape in datasets.items():
            file[name] = np.ones(shape)
    expected = {
        name: EXPECTED[name]
        for name in (
            "stem/kernel", "depthwise_conv2d/kernel", "conv2d_transpose/kernel",
            "embedding/embedding", "lstm/lstm_cell/kernel", "subnet/inner/kernel", "head/kernel",
        )
    }  # fmt: skip
    assert described(open_checkpoint(tmp_path / "whole.h5")) == expected
    kinds = {name: kind for name, (_, kind, _) in
             described(open_checkpoint(tmp_path / "weights.h5")).items()}  # fmt: skip
    # A layer that its user named is of no known class without the configuration.
    unknown = dict.fromkeys(("stem/kernel", "subnet/inner/kernel", "head/kernel"), "")
    assert kinds == {name: kind for name, (_, kind, _) in expected.items()} | unknown


def test_bfloat16_is_read_exactly(tmp_path):
    values = RNG.standard_normal((4, 3)).astype(ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        dataset = file.create_dataset("layers/dense/vars/0", data=values.view("V2"))
        dataset.attrs["dtype"] = "bfloat16"
    read = open_checkpoint(tmp_path / "a.weights.h5")["dense/kernel"].read()
    assert read.dtype == ml_dtypes.bfloat16
    assert read.tobytes() == values.tobytes()


def test_files_that_claim_more_than_they_hold(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("dense/kernel", shape=(2**20, 2**20), dtype="f4", chunks=(64, 64))
    with pytest.raises(ValueError, match=r"a\.h5 .*dense/kernel claims 4398046511104 bytes"):
        open_checkpoint(tmp_path / "a.h5")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"a\.keras .*model\.weights\.h5"):
        open_checkpoint(tmp_path / "a.keras")


def test_a_report_of_a_keras_model(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = RNG.standard_normal((40, 30))
        file["layers/dense/vars/1"] = np.zeros(30)
    report = fitting.evaluate(tmp_path / "a.weights.h5", progress=False)
    assert list(report.layers["name"]) == ["dense/kernel"]
    assert list(report.skipped["name"]) == ["dense/bias"]
