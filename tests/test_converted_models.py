"""Trained PyTorch networks, converted and run in Flax: the same logits and accuracies."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import cifar_resnet
from examples.training import data

torch = pytest.importorskip("torch", reason="needs torch, which the tests' requirements install")

DISTILLER = "distiller_resnet20/checkpoint_trained_{}.pth.tar"
KARANCHAHAL = "resnet_cifar_karanchahal/{}_cifar10.pth"
NAMES = (
    DISTILLER.format("dense"),
    DISTILLER.format("4D_regularized_5Lremoved"),
    DISTILLER.format("ch_regularized_dense"),
    DISTILLER.format("4D_regularized_5Lremoved_finetuned"),
    KARANCHAHAL.format("resnet8"),
    KARANCHAHAL.format("resnet14"),
    KARANCHAHAL.format("resnet20"),
    KARANCHAHAL.format("resnet26"),
    KARANCHAHAL.format("resnet32"),
    "resnet_cifar_karanchahal/resnet8_cifar10_distilled.pth",
    KARANCHAHAL.format("WRN10_1"),
    KARANCHAHAL.format("WRN16_1"),
    KARANCHAHAL.format("WRN28_1"),
)
# Top-1 in per cent on the 10,000 test images, measured with PyTorch. One network per family: the
# logits of all are compared, so what is left is how a family normalizes its images.
ACCURACIES = {
    DISTILLER.format("dense"): 91.71,
    KARANCHAHAL.format("resnet8"): 89.59,
    KARANCHAHAL.format("WRN10_1"): 88.06,
}
FEW = (KARANCHAHAL.format("resnet8"), KARANCHAHAL.format("WRN10_1"))
EACH = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow, id=name.rpartition("/")[2])
    for name in NAMES
]


def state_dict_of(path):
    content = torch.load(path, map_location="cpu", weights_only=True)
    state_dict = content.get("state_dict") or content["model_state_dict"]
    return {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}


class TorchResNet:
    """The three families in PyTorch's own operations, from the state dict's own names."""

    def __init__(self, state_dict):
        self.state = state_dict
        self.wide = "layer1.layer.0.bn1.weight" in state_dict
        self.distiller = "fc.weight" in state_dict

    def conv(self, x, name, stride=1):
        weight = self.state[f"{name}.weight"]
        return torch.nn.functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2)

    def norm(self, x, name):
        statistics = (self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"])
        affine = (self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        return torch.nn.functional.batch_norm(x, *statistics, *affine)

    def block(self, x, name, stride):
        if self.wide:
            y = torch.relu(self.norm(x, f"{name}.bn1"))
            if f"{name}.convShortcut.weight" in self.state:
                x = self.conv(y, f"{name}.convShortcut", stride)
            y = torch.relu(self.norm(self.conv(y, f"{name}.conv1", stride), f"{name}.bn2"))
            return x + self.conv(y, f"{name}.conv2")
        y = torch.relu(self.norm(self.conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
        y = self.norm(self.conv(y, f"{name}.conv2"), f"{name}.bn2")
        shortcut = f"{name}.{'downsample' if self.distiller else 'shortcut'}"
        if f"{shortcut}.0.weight" in self.state:
            x = self.norm(self.conv(x, f"{shortcut}.0", stride), f"{shortcut}.1")
        return torch.relu(x + y) if self.distiller else x + y

    def __call__(self, x):
        x = self.conv(x, "conv1")
        if not self.wide:
            x = torch.relu(self.norm(x, "bn1"))
        for stage in (1, 2, 3):
            prefix = f"layer{stage}.layer" if self.wide else f"layer{stage}"
            number = 0
            while f"{prefix}.{number}.conv1.weight" in self.state:
                x = self.block(x, f"{prefix}.{number}", 2 if stage > 1 and number == 0 else 1)
                number += 1
            if not self.wide:
                x = torch.relu(x)
        if self.wide:
            x = torch.relu(self.norm(x, "bn1"))
        x = torch.nn.functional.avg_pool2d(x, 8 if self.wide or self.distiller else 4).flatten(1)
        head = "fc" if self.distiller else "linear"
        return x @ self.state[f"{head}.weight"].T + self.state[f"{head}.bias"]


def test_images(folder, number):
    pixels, labels = data.read_cifar10(folder / "cifar-10-batches-bin" / "test_batch.bin")
    return pixels[:number], labels[:number]


test_images.__test__ = False


@pytest.mark.parametrize("name", EACH)
def test_logits_are_pytorchs(checkpoints, data_dir, name):
    """To 1e-4 in float32, on logits of 5 to 40."""
    model = cifar_resnet.read(checkpoints / name)
    pixels, _ = test_images(data_dir, 8)
    images = model.family.normalize(pixels)
    logits = nnx.jit(lambda model, x: model(x))(model, images)
    with torch.no_grad():
        reference = TorchResNet(state_dict_of(checkpoints / name))
        expected = reference(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert float(expected.abs().max()) > 5
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4)


def test_few_images_are_recognised(checkpoints, data_dir):
    name = FEW[0]
    score = cifar_resnet.accuracy(
        cifar_resnet.read(checkpoints / name), *test_images(data_dir, 100), batch_size=100
    )
    assert 100 * score == pytest.approx(ACCURACIES[name], abs=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACIES)
def test_accuracies_are_those_of_pytorch(checkpoints, data_dir, name):
    model = cifar_resnet.read(checkpoints / name)
    score = cifar_resnet.accuracy(model, *test_images(data_dir, 10_000))
    assert 100 * score == pytest.approx(ACCURACIES[name], abs=0.05)


def random_state_dict(family="karanchahal"):
    """What PyTorch would store of a network of two blocks a stage, under the family's names."""
    generator = torch.Generator().manual_seed(0)
    wide, distiller = family == "wide", family == "distiller"
    shortcut = "downsample" if distiller else "shortcut"

    def norm(name, num):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"module.{name}.{leaf}"] = torch.rand(num, generator=generator) + 0.5
        state[f"module.{name}.num_batches_tracked"] = torch.tensor(7)

    def conv(name, num_in, num_out, side=3):
        weight = torch.randn(num_out, num_in, side, side, generator=generator)
        state[f"module.{name}.weight"] = weight / (num_in * side * side) ** 0.5

    state = {}
    num_in = 64 if family == "karanchahal" else 16
    conv("conv1", 3, num_in)
    norm("bn1", 64 if wide else num_in)
    for stage, num_out in enumerate((16, 32, 64), start=1):
        for number in range(2):
            block = f"layer{stage}.{'layer.' if wide else ''}{number}"
            norm(f"{block}.bn1", num_in if wide else num_out)
            conv(f"{block}.conv1", num_in, num_out)
            norm(f"{block}.bn2", num_out)
            conv(f"{block}.conv2", num_out, num_out)
            if num_in != num_out and wide:
                conv(f"{block}.convShortcut", num_in, num_out, 1)
            elif num_in != num_out:
                conv(f"{block}.{shortcut}.0", num_in, num_out, 1)
                norm(f"{block}.{shortcut}.1", num_out)
            num_in = num_out
    head, num_features = "fc" if distiller else "linear", 256 if family == "karanchahal" else 64
    state[f"module.{head}.weight"] = torch.randn(10, num_features, generator=generator) / 16
    state[f"module.{head}.bias"] = torch.randn(10, generator=generator)
    return state


@pytest.mark.parametrize("family", cifar_resnet.FAMILIES)
def test_a_network_without_files_computes_the_same(family):
    state_dict = random_state_dict(family)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    model = cifar_resnet.from_torch(state_dict)
    assert model.family == cifar_resnet.FAMILIES[family]
    plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    expected = TorchResNet(plain)(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    logits = nnx.jit(lambda model, x: model(x))(model, jnp.asarray(images))
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4)


def test_weights_that_do_not_fit_are_named():
    state_dict = random_state_dict()
    with pytest.raises(ValueError, match="state_dict is without 'layer1'; expected a CIFAR"):
        cifar_resnet.from_torch({"fc.weight": np.ones((10, 4))})
    missing = {k: v for k, v in state_dict.items() if k != "module.layer2.0.bn2.running_var"}
    with pytest.raises(ValueError, match="is another network in layer2/0/bn2/var"):
        cifar_resnet.from_torch(missing)
    with pytest.raises(ValueError, match="layer3/0/more/kernel"):
        cifar_resnet.from_torch(state_dict | {"module.layer3.0.more.weight": np.ones((3, 3))})


def test_the_command_line_scores_a_checkpoint(checkpoints, data_dir, tmp_path, capsys):
    options = ["--data-dir", str(data_dir), "--images", "50", "--out", str(tmp_path)]
    path = str(checkpoints / KARANCHAHAL.format("resnet8"))
    assert cifar_resnet.main([*options, "--checkpoints", path]) == 0
    assert "karanchahal" in capsys.readouterr().out
    assert "resnet8_cifar10" in (tmp_path / "results.md").read_text()
    assert cifar_resnet.main([*options, "--checkpoints", str(tmp_path / "none.pth")]) == 1
    assert "none.pth" in capsys.readouterr().err
