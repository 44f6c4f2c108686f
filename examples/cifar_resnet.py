"""Residual networks for CIFAR that run weights converted from PyTorch, and their scores.

python -m examples.cifar_resnet --data-dir FOLDER --checkpoints CHECKPOINT...
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

import spectral_reg as sr
from examples.presenting import record
from examples.training import data

NUM_CHANNELS = (16, 32, 64)
# What the three code bases call the same thing.
RENAMED = {"downsample": "shortcut", "convShortcut": "shortcut", "fc": "linear"}
NOT_RUN = "num_batches_tracked"


class Family(NamedTuple):
    """A way to wire a residual network, and the images that it was trained on.

    Attributes:
        num_stem: Channels of the first convolution.
        preactivated: Normalise and rectify before each convolution, as wide residual networks do.
        relu_each_block: Rectify after every addition; otherwise once after each stage.
        pooled_side: Side of the map that the last average pooling leaves.
        mean: Of the pixels in [0, 1], by colour.
        deviation: Of the pixels in [0, 1], by colour.
    """

    num_stem: int
    preactivated: bool
    relu_each_block: bool
    pooled_side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Bytes `[n, 32, 32, 3]` as the network wants them, in float32."""
        scaled = pixels.astype(np.float32) / 255
        return (scaled - np.array(self.mean, "f4")) / np.array(self.deviation, "f4")


CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
FAMILIES = {
    "distiller": Family(16, False, True, 1, (0.5,) * 3, (0.5,) * 3),
    "karanchahal": Family(64, False, False, 2, *CIFAR),
    "wide": Family(16, True, False, 1, *CIFAR),
}


def _conv(num_in: int, num_out: int, side: int, stride: int = 1) -> nnx.Conv:
    # PyTorch pads both ends; "SAME" at stride 2 would pad one.
    pad = ((side // 2, side // 2),) * 2
    return nnx.Conv(
        num_in, num_out, (side, side), stride, padding=pad, use_bias=False, rngs=nnx.Rngs(0)
    )


def _norm(num: int) -> nnx.BatchNorm:
    return nnx.BatchNorm(num, use_running_average=True, epsilon=1e-5, rngs=nnx.Rngs(0))


class Block(nnx.Module):
    """Two 3 x 3 convolutions, each with a batch norm after it, and a shortcut around them."""

    def __init__(self, num_in: int, num_out: int, stride: int, *, relu: bool):
        self.relu = relu
        self.conv1, self.bn1 = _conv(num_in, num_out, 3, stride), _norm(num_out)
        self.conv2, self.bn2 = _conv(num_out, num_out, 3), _norm(num_out)
        if stride != 1 or num_in != num_out:
            self.shortcut = nnx.List([_conv(num_in, num_out, 1, stride), _norm(num_out)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[n, height, width, num_in]` to `num_out` channels."""
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        for layer in getattr(self, "shortcut", ()):
            x = layer(x)
        return nnx.relu(x + y) if self.relu else x + y


class PreactivatedBlock(nnx.Module):
    """The same with batch norm and ReLU before each convolution."""

    def __init__(self, num_in: int, num_out: int, stride: int):
        self.bn1, self.conv1 = _norm(num_in), _conv(num_in, num_out, 3, stride)
        self.bn2, self.conv2 = _norm(num_out), _conv(num_out, num_out, 3)
        if num_in != num_out:
            self.shortcut = _conv(num_in, num_out, 1, stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[n, height, width, num_in]` to `num_out` channels."""
        y = nnx.relu(self.bn1(x))
        # Where the shape changes, the shortcut too starts after the ReLU.
        x = self.shortcut(y) if hasattr(self, "shortcut") else x
        return x + self.conv2(nnx.relu(self.bn2(self.conv1(y))))


def _stage(family: Family, num_blocks: int, num_in: int, num_out: int, stride: int) -> nnx.List:
    shapes = [(num_in, num_out, stride)] + [(num_out, num_out, 1)] * (num_blocks - 1)
    if family.preactivated:
        return nnx.List([PreactivatedBlock(*shape) for shape in shapes])
    return nnx.List([Block(*shape, relu=family.relu_each_block) for shape in shapes])


class ResNet(nnx.Module):
    """A residual network for 32 x 32 images: a stem, three stages and one dense layer.

    Args:
        family: How it is wired.
        num_blocks: Blocks in each stage.
        num_classes: Number of logits.
    """

    def __init__(self, family: Family, num_blocks: int, num_classes: int = 10):
        self.family = family
        self.conv1 = _conv(3, family.num_stem, 3)
        first, second, third = NUM_CHANNELS
        self.layer1 = _stage(family, num_blocks, family.num_stem, first, stride=1)
        self.layer2 = _stage(family, num_blocks, first, second, stride=2)
        self.layer3 = _stage(family, num_blocks, second, third, stride=2)
        self.bn1 = _norm(third if family.preactivated else family.num_stem)
        num_features = third * family.pooled_side**2
        self.linear = nnx.Linear(num_features, num_classes, rngs=nnx.Rngs(0))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[n, classes]` of normalized images `[n, 32, 32, 3]`."""
        x = self.conv1(images)
        if not self.family.preactivated:
            x = nnx.relu(self.bn1(x))
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                x = block(x)
            if not self.family.preactivated:
                x = nnx.relu(x)  # no change where each block has ended in one
        if self.family.preactivated:
            x = nnx.relu(self.bn1(x))
        num, side, _, features = x.shape
        pooled_side = self.family.pooled_side
        window = side // pooled_side
        pooled = x.reshape(num, pooled_side, window, pooled_side, window, features).mean((2, 4))
        # The dense layer counts its features as PyTorch lays them out: channels first.
        return self.linear(pooled.transpose(0, 3, 1, 2).reshape(len(x), -1))


def family_of(params: Mapping[str, Any]) -> str:
    """Which of `FAMILIES` converted parameters belong to."""
    if "layer" in params["layer1"]:
        return "wide"
    return "distiller" if "fc" in params else "karanchahal"


def _as_nnx(params: Mapping[str, Any]) -> dict[Any, Any]:
    """Converted parameters with the names that they have here, and numbers for list indices."""
    return {
        int(name) if name.isdecimal() else RENAMED.get(name, name): (
            _as_nnx(value.get("layer", value)) if isinstance(value, Mapping) else value
        )
        for name, value in params.items()
        if name != NOT_RUN
    }


def from_torch(state_dict: Mapping[str, Any]) -> ResNet:
    """The network of a PyTorch state dict, with its weights.

    Args:
        state_dict: Names to tensors, of one of the three families.

    Raises:
        ValueError: If it is of none of them: the names that do not fit are listed.
    """
    converted = sr.params_from_torch(state_dict)
    try:
        family = FAMILIES[family_of(converted)]
        params = _as_nnx(converted)
        model = ResNet(family, len(params["layer1"]), params["linear"]["bias"].size)
    except KeyError as error:
        raise ValueError(f"state_dict is without {error}; expected a CIFAR ResNet") from None
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    shapes, given = (
        {sr.path_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (nnx.to_pure_dict(state), params)
    )
    if shapes != given:
        differing = sorted(name for name, _ in shapes.items() ^ given.items())
        raise ValueError(
            f"state_dict is another network in {', '.join(differing)}; expected a CIFAR ResNet's"
            " names and shapes"
        )
    nnx.update(model, params)
    return model


def read(path: Path) -> ResNet:
    """The network of a PyTorch checkpoint, which is read with `weights_only=True`."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    return from_torch(content.get("state_dict") or content["model_state_dict"])


@nnx.jit
def _num_right(model: ResNet, images: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.sum(model(images).argmax(-1) == labels.astype(int))


def accuracy(
    model: ResNet,
    pixels: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 500,
    on_images: Callable[[int], object] = lambda number: None,
) -> float:
    """Share of the images, as bytes `[n, 32, 32, 3]`, whose label has the largest logit."""
    num_right = 0
    for start in range(0, len(pixels), batch_size):
        chosen = slice(start, start + batch_size)
        images = jnp.asarray(model.family.normalize(pixels[chosen]))
        num_right += int(_num_right(model, images, jnp.asarray(labels[chosen])))
        on_images(len(images))
    return num_right / len(pixels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.cifar_resnet", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="of cifar-10-batches-bin/")
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True)
    parser.add_argument("--images", type=int, help="score on this many, from the first")
    parser.add_argument("--out", type=Path, help="folder for results.md, the table")
    options = parser.parse_args(arguments)
    result = Table(box=None, padding=(0, 2, 0, 0))
    result.add_column("checkpoint", no_wrap=True)
    result.add_column("family")
    result.add_column("parameters", justify="right")
    result.add_column("top-1 %", justify="right")
    try:
        test_file = options.data_dir / "cifar-10-batches-bin" / "test_batch.bin"
        pixels, labels = (part[: options.images] for part in data.read_cifar10(test_file))
        total = len(pixels) * len(options.checkpoints)
        with tqdm(total=total, unit="img", unit_scale=True, ncols=80, leave=False) as bar:
            for path in options.checkpoints:
                bar.set_description(path.stem)
                model = read(path)
                score = accuracy(model, pixels, labels, on_images=bar.update)
                num_parameters = sum(
                    leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))
                )
                family = next(name for name, one in FAMILIES.items() if one == model.family)
                name = path.name.removesuffix(".tar").removesuffix(".pth")
                result.add_row(name, family, f"{num_parameters:,}", f"{100 * score:.2f}")
    except (data.DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(result)
    if options.out:
        heading = f"Converted ResNets on {len(pixels):,} test images of CIFAR-10"
        command = "python -m examples.cifar_resnet --data-dir FOLDER --checkpoints FILES"
        print(record.write(options.out / "results.md", heading, [result], command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
