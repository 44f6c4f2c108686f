"""PyTorch files and live modules: exact values, and every tensor listed."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from torch_files import save, weights

import fitting
from fitting._checkpoints import open_checkpoint

torch = pytest.importorskip("torch", reason="needs torch, which the tests' requirements install")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_values_are_exact_and_travel_to_other_processes(tmp_path, zipped):
    torch.manual_seed(0)
    dense = torch.randn(6, 4)
    state_dict = weights(
        fc__weight=dense,
        half__weight=dense.half(),
        brain__weight=dense.bfloat16(),
        eight__weight=dense.to(torch.float8_e4m3fn),
        view__weight=torch.randn(8, 9)[::2, 1:],
        conv__weight=torch.randn(5, 3, 2, 4),
        scalar=torch.tensor(3.0),
        empty=torch.zeros(0, 3),
        integer=torch.arange(3),
    )
    if not zipped:
        del state_dict["eight.weight"]  # the old format has no such storage
    path = save(tmp_path / "a.pt", state_dict, _use_new_zipfile_serialization=zipped)
    tensors = open_checkpoint(path)
    assert {tensor.origin for tensor in tensors.values()} == set(state_dict)
    for name, tensor in tensors.items():
        values = pickle.loads(pickle.dumps(tensor)).read()
        expected = state_dict[tensor.origin]
        assert (values.shape, values.dtype.name) == (tensor.shape, tensor.dtype), name
        if name.endswith("kernel"):
            expected = expected.permute(*range(2, expected.ndim), 1, 0)
        np.testing.assert_array_equal(values.astype(float), expected.double().numpy())
    assert tensors["brain/kernel"].read().dtype == ml_dtypes.bfloat16
    assert tensors["conv/kernel"].shape == (2, 4, 3, 5)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_outside_the_state_dict_are_listed_with_a_reason(tmp_path, zipped):
    checkpoint = {
        "epoch": 3,
        "model_state_dict": weights(module___orig_mod__fc__weight=torch.ones(3, 2)),
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.ones(3, 2)}}},
        "best": torch.tensor(0.9),
    }
    path = save(tmp_path / "a.pth.tar", checkpoint, _use_new_zipfile_serialization=zipped)
    tensors = open_checkpoint(path)
    assert {name: tensor.reason for name, tensor in tensors.items()} == {
        "fc/kernel": "",
        "optimizer_state_dict/state/0/momentum_buffer": (
            "not in the state dict, under 'optimizer_state_dict'"
        ),
        "best": "not in the state dict, under 'best'",
    }


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd},
        lambda sd: {"model": {"state_dict": sd}},
        lambda sd: {"epoch": 1, "net": sd},
        lambda sd: {"module." + name: tensor for name, tensor in sd.items()},
        lambda sd: {"model.module._orig_mod." + name: tensor for name, tensor in sd.items()},
    ],
)
def test_usual_keys_and_prefixes_in_any_nesting(tmp_path, wrapped):
    path = save(tmp_path / "a.ckpt", wrapped(weights(fc__weight=torch.ones(3, 2))))
    assert open_checkpoint(path)["fc/kernel"].shape == (2, 3)


def test_several_networks_are_all_weights(tmp_path):
    network = weights(fc__weight=torch.ones(3, 2))
    path = save(tmp_path / "gan.pt", {"generator": network, "discriminator": dict(network)})
    assert set(open_checkpoint(path)) == {"generator/fc/kernel", "discriminator/fc/kernel"}


def test_a_live_module_says_what_its_layers_are():
    net = torch.nn.ModuleDict(
        {
            "fc": torch.nn.Linear(4, 3),
            "conv": torch.nn.Conv2d(4, 6, (2, 3), groups=2),
            "up": torch.nn.ConvTranspose2d(6, 4, (2, 3), groups=2),
            "embed": torch.nn.Embedding(10, 5),
            "lstm": torch.nn.LSTM(4, 3),
            "norm": torch.nn.BatchNorm1d(3),
        }
    )
    tensors = open_checkpoint(torch.nn.DataParallel(net))
    described = {name: (t.shape, t.kind, t.groups) for name, t in tensors.items() if t.ndim > 1}
    assert described == {
        "fc/kernel": ((4, 3), "dense", 1),
        "conv/kernel": ((2, 3, 2, 6), "conv", 2),
        "up/kernel": ((2, 3, 6, 2), "conv_transpose", 2),
        "embed/embedding": ((10, 5), "embedding", 1),
        "lstm/weight_ih_l0": ((12, 4), "lstm", 1),
        "lstm/weight_hh_l0": ((12, 3), "lstm", 1),
    }
    up = pickle.loads(pickle.dumps(tensors["up/kernel"])).read()
    np.testing.assert_array_equal(up.transpose(2, 3, 0, 1), net["up"].weight.detach().numpy())
    assert open_checkpoint(net.state_dict()).keys() == tensors.keys()


def test_bilinear_layers_are_a_matrix_for_each_output_and_scales_are_none():
    net = torch.nn.ModuleDict(
        {
            "conv_like": torch.nn.Bilinear(20, 15, 4),
            "ln": torch.nn.LayerNorm((20, 15)),
            "fc": torch.nn.Linear(20, 15),
        }
    )
    report = fitting.evaluate(net, conv="flatten", progress=False)
    rows = report.layers[report.layers["name"] == "conv_like/kernel"]
    assert set(rows["kind"]) == {"bilinear"}
    assert rows["index"].tolist() == ["0", "1", "2", "3"]
    W = net["conv_like"].weight.detach().numpy()
    for output in range(4):
        expected = np.linalg.svd(W[output].astype(float), compute_uv=False) ** 2
        np.testing.assert_allclose(report.spectra["conv_like/kernel", str(output)], expected)
    reasons = dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))
    assert reasons["ln/scale"] == "the scale of a normalization"


def tied():
    net = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(40, 20),
            "fc": torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(20, 20)),
            "head": torch.nn.Linear(20, 40, bias=False),
            "alike": torch.nn.Linear(20, 40, bias=False),
        }
    )
    net["again"] = net["fc"]
    net["head"].weight = net["embed"].weight
    net["alike"].weight.data = net["embed"].weight.data.clone()
    return net


@pytest.mark.parametrize("form", ["module", "state dict", "file", "old file"])
def test_tied_weights_are_measured_once(form, tmp_path):
    model = tied()
    if form != "module":
        model = model.state_dict()
    if "file" in form:
        path = tmp_path / "tied.pt"
        torch.save(model, path, _use_new_zipfile_serialization=form == "file")
        model = path
    report = fitting.evaluate(model, progress=False)
    assert report.layers["name"].tolist() == ["embed/embedding", "fc/kernel", "alike/kernel"]
    reasons = dict(zip(report.skipped["name"], report.skipped["reason"], strict=True))
    assert reasons["head/kernel"] == "the same tensor as embed/embedding"
    assert reasons["again/kernel"] == "the same tensor as fc/kernel"
    # The first that is asked for stands for all.
    report = fitting.evaluate(model, layers=["head/*"], progress=False)
    assert report.layers["name"].tolist() == ["head/kernel"]


def test_parts_of_one_storage_are_tensors_of_their_own():
    whole = torch.randn(40, 20)
    parts = {"a.weight": whole[:20], "b.weight": whole[20:], "c.weight": whole[:20].T}
    assert len(fitting.evaluate(parts, progress=False).layers) == 3


def test_what_holds_no_plain_numbers_has_a_reason(tmp_path):
    state_dict = weights(
        sparse__weight=torch.eye(3).to_sparse(),
        absent__weight=torch.zeros(2, 2, device="meta"),
        eight__weight=torch.ones(4, 4).to(torch.float8_e4m3fn),
        eight__weight_scale=torch.ones(4),
        bits__weight=torch.ones(4, 1, dtype=torch.uint8),
        bits__weight__absmax=torch.ones(2),
        gptq__qweight=torch.ones(4, 4, dtype=torch.int32),
        gptq__scales=torch.ones(2, 4),
    )
    reasons = {
        name: tensor.reason
        for name, tensor in open_checkpoint(save(tmp_path / "a.pt", state_dict)).items()
    }
    assert reasons == {
        "sparse/kernel": "of layout torch.sparse_coo",
        "absent/kernel": "on the meta device, without values",
        "eight/kernel": "quantized to float8_e4m3fn, with its scales in 'eight.weight_scale'",
        "eight/weight_scale": "",
        "bits/kernel": "quantized to uint8, with its scales in 'bits.weight.absmax'",
        "bits/weight/absmax": "part of a quantized layer (absmax)",
        "gptq/qweight": "part of a quantized layer (qweight)",
        "gptq/scales": "part of a quantized layer (scales)",
    }


def test_duplicates_after_the_prefixes_are_refused(tmp_path):
    state_dict = {"a._orig_mod.fc.weight": torch.ones(2, 2), "a.fc.weight": torch.ones(2, 2)}
    path = save(tmp_path / "twice.pt", state_dict)
    message = r"twice\.pt.*'a\.fc\.weight' without its prefix, and so is 'a\._orig_mod\.fc\.weight'"
    with pytest.raises(ValueError, match=message):
        open_checkpoint(path)


def test_a_name_of_both_a_tensor_and_a_module_is_kept(tmp_path):
    path = save(tmp_path / "a.pt", {"a.b": torch.ones(2, 2), "a.b.c": torch.ones(1)})
    assert set(open_checkpoint(path)) == {"a/b", "a/b/c"}


def test_the_thinned_distiller_models_load_by_stand_ins(checkpoints):
    folder = checkpoints / "distiller_resnet20"
    name = "checkpoint_trained_channel_regularized_resnet20"
    for file in (f"{name}.pth.tar", f"{name}_finetuned.pth.tar"):
        tensors = open_checkpoint(folder / file)
        kernels = {path: t for path, t in tensors.items() if path.endswith("kernel")}
        assert len(kernels) == 22
        assert kernels["layer3/0/conv1/kernel"].read().shape == (3, 3, 32, 52)
        under = {t.reason.partition("under ")[2] for t in tensors.values() if t.reason}
        assert "'thinning_recipes'" in under
