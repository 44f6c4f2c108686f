"""ONNX initializers, as the operators use them."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from draws import RNG

from fitting._checkpoints import open_checkpoint

onnx = pytest.importorskip("onnx", reason="needs onnx, which the tests' requirements install")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def save(path, nodes, weights, **options):
    graph = helper.make_graph(
        nodes, "graph", [], [], [numpy_helper.from_array(w, n) for n, w in weights.items()]
    )
    onnx.save(helper.make_model(graph), path, **options)
    return path


WEIGHTS = {
    "fc.weight": RNG.standard_normal((3, 4)),
    "fc.bias": np.zeros(3),
    "onnx::MatMul_7": RNG.standard_normal((4, 3)),
    "left": RNG.standard_normal((3, 4)),
    "stored.weight": RNG.standard_normal((3, 4)),
    "conv.weight": RNG.standard_normal((8, 2, 3, 5)),
    "up.weight": RNG.standard_normal((8, 2, 3, 5)),
    "words.weight": RNG.standard_normal((10, 4)),
    "onnx::LSTM_9": RNG.standard_normal((1, 16, 3)),
    "onnx::LSTM_10": RNG.standard_normal((1, 16, 4)),
    "small.weight": np.ones((3, 4), np.int8),
    "norm.weight": np.ones(3),
    "unused.weight": RNG.standard_normal((3, 4)),
}
NODES = [
    helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["a"], "/fc/Gemm", transB=1),
    helper.make_node("MatMul", ["a", "onnx::MatMul_7"], ["b"], "/block/proj/MatMul"),
    helper.make_node("MatMul", ["left", "b"], ["c"], "/left/MatMul"),
    helper.make_node("Transpose", ["stored.weight"], ["stored_t"], perm=[1, 0]),
    helper.make_node("MatMul", ["c", "stored_t"], ["d"]),
    helper.make_node("Conv", ["d", "conv.weight"], ["e"], group=2),
    helper.make_node("ConvTranspose", ["e", "up.weight"], ["f"], group=4),
    helper.make_node("Gather", ["words.weight", "f"], ["g"]),
    helper.make_node("LSTM", ["g", "onnx::LSTM_9", "onnx::LSTM_10"], ["h"], "/rnn/LSTM"),
    helper.make_node("DequantizeLinear", ["small.weight", "scale"], ["i"]),
    helper.make_node("Add", ["i", "norm.weight"], ["j"]),
]


def test_operators_give_kind_layout_and_groups(tmp_path):
    tensors = open_checkpoint(save(tmp_path / "a.onnx", NODES, WEIGHTS))
    assert {tensor.origin for tensor in tensors.values()} == set(WEIGHTS)
    described = {name: (t.shape, t.kind, t.groups) for name, t in tensors.items() if not t.reason}
    assert described == {
        "fc/kernel": ((4, 3), "dense", 1),
        "fc/bias": ((3,), "", 1),
        "block/proj/kernel": ((4, 3), "dense", 1),
        "left/kernel": ((4, 3), "dense", 1),
        "stored/kernel": ((4, 3), "dense", 1),
        "conv/kernel": ((3, 5, 2, 8), "conv", 2),
        "up/kernel": ((3, 5, 8, 2), "conv_transpose", 4),
        "words/embedding": ((10, 4), "embedding", 1),
        "rnn/kernel": ((1, 3, 16), "lstm", 1),
        "rnn/recurrent_kernel": ((1, 4, 16), "lstm", 1),
        "norm/scale": ((3,), "", 1),
        "unused/kernel": ((4, 3), "", 1),
    }
    assert tensors["small/kernel"].reason == "part of a quantized layer, of type int8"
    kernel = pickle.loads(pickle.dumps(tensors["conv/kernel"])).read()
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), WEIGHTS["conv.weight"])
    np.testing.assert_array_equal(tensors["fc/kernel"].read(), WEIGHTS["fc.weight"].T)
    np.testing.assert_array_equal(tensors["block/proj/kernel"].read(), WEIGHTS["onnx::MatMul_7"])


def test_types_are_read_exactly(tmp_path):
    exact = RNG.standard_normal((4, 3))
    weights = {
        dtype: exact.astype(getattr(ml_dtypes, dtype, None) or dtype)
        for dtype in ("bfloat16", "float16", "float64", "float8_e4m3fn", "bool")
    } | {"scalar": np.array(2.0), "empty": np.zeros((0, 3))}
    tensors = open_checkpoint(save(tmp_path / "a.onnx", [], weights))
    for name, values in weights.items():
        read = pickle.loads(pickle.dumps(tensors[name])).read()
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read.astype(float), values.astype(float))


def external(tmp_path):
    weights = {"fc.weight": RNG.standard_normal((30, 40)), "bias": RNG.standard_normal(40)}
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    return save(tmp_path / "a.onnx", NODES[:1], weights, **options), weights


def test_external_data_is_read_one_tensor_at_a_time(tmp_path):
    path, weights = external(tmp_path)
    tensors = open_checkpoint(path)
    kernel = pickle.loads(pickle.dumps(tensors["fc/kernel"])).read()
    np.testing.assert_array_equal(kernel, weights["fc.weight"].T)
    np.testing.assert_array_equal(tensors["bias"].read(), weights["bias"])


def test_external_data_that_is_missing_short_or_elsewhere(tmp_path):
    path, _ = external(tmp_path)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"a\.onnx .*'fc\.weight' of 9600 bytes does not lie"):
        open_checkpoint(path)
    data.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.bin, which is not beside it"):
        open_checkpoint(path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="outside the file's folder"):
        open_checkpoint(path)


def test_weights_inside_branches_and_constants_are_listed(tmp_path):
    weight = numpy_helper.from_array(RNG.standard_normal((4, 3)), "inner.weight")
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner.weight"], ["y"])], "branch", [], [], [weight]
    )
    constant = numpy_helper.from_array(RNG.standard_normal((4, 3)))
    nodes = [
        helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["matrix"], value=constant),
    ]
    with pytest.raises(ValueError, match=r"both be named 'inner/kernel'"):
        open_checkpoint(save(tmp_path / "a.onnx", nodes, {}))
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", [], [])
    nodes[0] = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    assert set(open_checkpoint(save(tmp_path / "a.onnx", nodes, {}))) == {"inner/kernel", "matrix"}
