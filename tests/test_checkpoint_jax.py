"""Pytrees in memory, Flax msgpack files and Orbax folders."""

import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import linen, nnx, serialization
from flax.training.train_state import TrainState

import fitting
import spectral_reg as sr
from fitting._checkpoints import open_checkpoint

TREE = {
    "params": {
        "fc": {"kernel": jnp.arange(6.0).reshape(2, 3).astype(jnp.bfloat16)},
        "blocks": {"0": {"kernel": jnp.ones((3, 3, 2, 4))}},
    },
    "step": jnp.int32(3),
}
NAMES = {"params/fc/kernel", "params/blocks/0/kernel", "step"}


def reads(tensor):
    values = pickle.loads(pickle.dumps(tensor)).read()
    assert (values.shape, values.dtype.name) == (tensor.shape, tensor.dtype)
    return values


def test_pytrees_of_every_framework():
    assert open_checkpoint(TREE).keys() == NAMES
    linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    for model in (linear, nnx.state(linear), nnx.state(linear, nnx.Param)):
        assert open_checkpoint(model)["kernel"].shape == (4, 3)
    variables = linen.Dense(3).init(jax.random.key(0), jnp.ones((1, 4)))
    assert open_checkpoint(variables).keys() == {"params/kernel", "params/bias"}


def test_a_live_nnx_module_says_what_its_layers_are():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(4, 8, (3, 3), feature_group_count=2, rngs=rngs)
            self.up = nnx.ConvTranspose(4, 8, (3, 3), rngs=rngs)
            self.words = nnx.Embed(10, 4, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(3, 5, rngs=rngs)])
            self.attention = nnx.MultiHeadAttention(2, 4, rngs=rngs)
            self.cell = nnx.OptimizedLSTMCell(4, 8, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)

    tensors = open_checkpoint(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
    described = {
        name: (tensor.shape, tensor.kind, tensor.groups)
        for name, tensor in tensors.items()
        if name.endswith(("kernel", "embedding")) and "attention" not in name
    }
    assert described == {
        "conv/kernel": ((3, 3, 2, 8), "conv", 2),
        "up/kernel": ((3, 3, 4, 8), "conv_transpose", 1),
        "words/embedding": ((10, 4), "embedding", 1),
        "blocks/0/kernel": ((3, 5), "dense", 1),
        "cell/dense_i/kernel": ((4, 32), "dense", 1),  # their names tell the gates
        "cell/dense_h/kernel": ((8, 32), "dense", 1),
    }
    assert tensors["attention/query/kernel"].kind == "dense"
    assert tensors["norm/scale"].kind == ""


def test_a_live_equinox_model_says_what_its_layers_are():
    keys = jax.random.split(jax.random.key(0), 7)
    net = {
        "encoder": eqx.nn.Sequential(
            [
                eqx.nn.Conv1d(20, 30, 3, groups=2, key=keys[0]),
                eqx.nn.ConvTranspose1d(30, 20, 3, key=keys[1]),
                eqx.nn.LayerNorm((20, 15)),
            ]
        ),
        "words": eqx.nn.Embedding(40, 15, key=keys[2]),
        "cell": eqx.nn.LSTMCell(15, 20, key=keys[3]),
        "blocks": eqx.filter_vmap(lambda key: eqx.nn.Linear(20, 15, key=key))(keys),
    }
    for model in (net, eqx.filter(net, eqx.is_array)):
        tensors = open_checkpoint(model)
        assert {name: t.kind for name, t in tensors.items() if "weight" in name} == {
            "encoder/layers/0/weight": "conv",
            "encoder/layers/1/weight": "conv_transpose",
            "encoder/layers/2/weight": "norm",
            "words/weight": "embedding",
            "cell/weight_ih": "lstm",
            "cell/weight_hh": "lstm",
            "blocks/weight": "dense",
        }
    report = fitting.evaluate(net, conv="pooled", progress=False)
    rows = report.layers.groupby("name", sort=False)
    measured = {name: (row["kind"].iloc[0], len(row)) for name, row in rows}
    assert measured == {
        "encoder/layers/0/weight": ("conv", 1),
        "encoder/layers/1/weight": ("conv_transpose", 1),
        "words/weight": ("embedding", 1),
        "cell/weight_ih": ("lstm", 4),
        "cell/weight_hh": ("lstm", 4),
        "blocks/weight": ("stack", 7),
    }
    reasons = dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))
    assert reasons["encoder/layers/2/weight"] == "the scale of a normalization"
    # Both packages read the same matrices.
    matrices = sr.layer_matrices(net)
    for name in ("encoder/layers/0/weight", "encoder/layers/1/weight"):
        values = np.linalg.svd(np.asarray(matrices[name], np.float64), compute_uv=False) ** 2
        np.testing.assert_allclose(report.spectra[name, ""], np.sort(values.ravel())[::-1])


def test_a_weight_that_nnx_layers_share_is_measured_once():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(40, 20, rngs=rngs)
            self.same = self.embed
            self.head = nnx.Linear(20, 20, rngs=rngs)
            self.other = nnx.Linear(20, 20, rngs=rngs)
            self.other.kernel = self.head.kernel

    report = fitting.evaluate(Tied(nnx.Rngs(0)), progress=False)
    assert report.layers["name"].tolist() == ["embed/embedding", "head/kernel"]
    reasons = dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))
    assert reasons["same/embedding"] == "the same tensor as embed/embedding"
    assert reasons["other/kernel"] == "the same tensor as head/kernel"


def order_of(model):
    return [name for name in open_checkpoint(model) if name.endswith("kernel")]


def test_layers_come_in_the_order_of_the_model(tmp_path):
    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(2, name="stem")(x)
            for _ in range(11):
                x = linen.Dense(2)(x)
            return linen.Dense(2, name="head")(x)

    def init():
        return Linen().init(jax.random.key(0), jnp.ones((1, 2)))["params"]

    blocks = [f"Dense_{i}/kernel" for i in range(11)]
    params, by_name = init(), jax.jit(init)()
    assert order_of(params) == ["stem/kernel", *blocks, "head/kernel"]
    # Sorted by JAX: their order is lost, but not that of their numbers.
    assert order_of(by_name) == [*blocks, "head/kernel", "stem/kernel"]
    path = tmp_path / "params.msgpack"
    path.write_bytes(serialization.to_bytes(by_name))
    assert order_of(path) == order_of(by_name)
    assert order_of((None, params))[0] == "1/stem/kernel"


def test_layers_of_a_live_nnx_module_come_as_they_were_set():
    class Module(nnx.Module):
        def __init__(self, rngs):
            self.stem = nnx.Linear(2, 2, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(11)])
            self.head = nnx.Linear(2, 2, rngs=rngs)

    blocks = [f"blocks/{i}/kernel" for i in range(11)]
    assert order_of(Module(nnx.Rngs(0))) == ["stem/kernel", *blocks, "head/kernel"]


def test_the_optimizer_of_a_train_state_is_no_weight():
    params = {"fc": {"kernel": jnp.ones((4, 3))}}
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(0.1))
    measured = {name for name, tensor in open_checkpoint(state).items() if not tensor.reason}
    assert measured == {"params/fc/kernel"}


def test_leaves_that_are_no_numbers_have_a_reason():
    tree = {
        "key": jax.random.key(0),
        "shape": jax.ShapeDtypeStruct((2, 3), jnp.float32),
        "name": "text",
        "rate": 0.1,
        "object": np.array([{}], dtype=object),
    }
    reasons = {name: tensor.reason for name, tensor in open_checkpoint(tree).items()}
    assert reasons == {
        "key": "of type key<fry>",
        "shape": "a shape without values",
        "name": "no array but str",
        "rate": "no array but float",
        "object": "of type object",
    }


def test_two_leaves_of_one_path_are_refused():
    with pytest.raises(ValueError, match="two tensors would both be named 'a/b'"):
        open_checkpoint({"a/b": np.ones(1), "a": {"b": np.ones(1)}})


def test_msgpack_files(tmp_path, monkeypatch):
    pytest.importorskip("msgpack", reason="needs msgpack")
    path = tmp_path / "flax_model.msgpack"
    expected = np.asarray(TREE["params"]["fc"]["kernel"])
    for chunk in (2**30, 8):  # in one piece, and in many
        monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", chunk)
        path.write_bytes(serialization.to_bytes(TREE))
        for source in (path, tmp_path):
            tensors = open_checkpoint(source)
            assert tensors.keys() == NAMES
            kernel = reads(tensors["params/fc/kernel"])
            assert kernel.dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(kernel.astype(float), expected.astype(float))


@pytest.mark.parametrize("options", [{}, {"use_ocdbt": False}, {"use_zarr3": True}], ids=str)
def test_orbax_folders(tmp_path, options):
    ocp = pytest.importorskip("orbax.checkpoint", reason="needs orbax-checkpoint")
    folder = tmp_path / "saved"
    tree = TREE | {"name": "text", "opt_state": {"mu": {"kernel": jnp.ones((2, 2))}}}
    ocp.PyTreeCheckpointer(**options).save(folder, tree)
    for path in (folder, tmp_path):  # itself, or the one that is within
        tensors = open_checkpoint(path)
        assert tensors.keys() == NAMES | {"name", "opt_state/mu/kernel"}
        kernel = reads(tensors["params/fc/kernel"])
        np.testing.assert_array_equal(kernel.astype(float), np.arange(6.0).reshape(2, 3))
        assert tensors["name"].reason == "no array but text"
        assert "optimizer" in tensors["opt_state/mu/kernel"].reason


def test_orbax_folders_come_in_the_order_of_their_numbers(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint", reason="needs orbax-checkpoint")
    tree = {f"Dense_{i}": {"kernel": jnp.ones((2, 2))} for i in range(11)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", tree)
    assert order_of(tmp_path / "orbax") == [f"{name}/kernel" for name in tree]


def test_orbax_folders_of_nnx_and_of_several_steps(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint", reason="needs orbax-checkpoint")
    state = nnx.state(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    with ocp.StandardCheckpointer() as checkpointer:
        for step in (1, 2):
            checkpointer.save(tmp_path / str(step), state)
    assert open_checkpoint(tmp_path / "1").keys() == {"kernel", "bias"}
    with pytest.raises(ValueError, match="several Orbax checkpoints; name one of 1, 2"):
        open_checkpoint(tmp_path)
    (tmp_path / "1" / "manifest.ocdbt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="1 is no readable Orbax checkpoint"):
        open_checkpoint(tmp_path / "1")
