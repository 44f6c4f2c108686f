"""Trained matrices of the sizes that networks have, made from CIFAR-10 and MNIST in a minute."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.sweeping.presets import PRESETS
from examples.training import data
from examples.training.training import train

NUM_STEPS = 600
BATCH_SIZE = 64


def _perceptron(
    images: np.ndarray, labels: np.ndarray, widths: tuple[int, ...]
) -> list[np.ndarray]:
    """Kernels of a ReLU network after `NUM_STEPS` steps of Adam."""
    rng = np.random.default_rng(0)
    sizes = (images.shape[1], *widths, 10)
    kernels = [
        jnp.asarray(rng.normal(size=pair) * np.sqrt(2 / pair[0]), jnp.float32)
        for pair in itertools.pairwise(sizes)
    ]
    optimizer = optax.adam(1e-3)

    def loss(kernels: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        for kernel in kernels[:-1]:
            x = jax.nn.relu(x @ kernel)
        logits = x @ kernels[-1]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    @jax.jit
    def step(kernels, state, x, y):
        updates, state = optimizer.update(jax.grad(loss)(kernels, x, y), state)
        return optax.apply_updates(kernels, updates), state

    state = optimizer.init(kernels)
    for _ in range(NUM_STEPS):
        batch = rng.integers(len(images), size=BATCH_SIZE)
        kernels, state = step(kernels, state, images[batch], labels[batch])
    return [np.asarray(kernel) for kernel in kernels]


def trained_matrices(data_dir: Path, store: Path) -> dict[tuple[int, int], np.ndarray]:
    """One trained matrix of each shape, from a file where it was made before.

    512 x 256, 3072 x 768 and 768 x 768 are layers of perceptrons on MNIST and CIFAR-10; 4096 x 384
    and 384 x 192 the dense layers of MiniAlexNet after two epochs (`quick`, CIFAR-10); 64 x 64 is
    the middle of a window of the ResNet20 that the folder of data holds.
    """
    if not store.exists():
        made = [*_from_perceptrons(data_dir), *_from_alexnet(data_dir), _from_resnet(data_dir)]
        store.parent.mkdir(parents=True, exist_ok=True)
        np.savez(store, *made)
    with np.load(store) as contents:
        return {contents[name].shape: contents[name] for name in contents.files}


def _from_perceptrons(data_dir: Path) -> list[np.ndarray]:
    mnist = data.load("mnist", data_dir, train_size=10_000, test_size=10)
    grey = mnist.train_images[..., 0].reshape(10_000, -1)
    images, labels = data.read_cifar10(data_dir / "cifar-10-batches-bin" / "data_batch_1.bin")
    colour = data.standardize(images.astype(np.float32)).reshape(10_000, -1)
    return [
        _perceptron(grey, mnist.train_labels, (512, 256))[1],
        *_perceptron(colour, labels.astype(np.int32), (768, 768))[:2],
    ]


def _from_alexnet(data_dir: Path) -> list[np.ndarray]:
    config = dataclasses.replace(PRESETS["quick"].baseline, epochs=2, test_size=1000)
    sizes = {"train_size": config.train_size, "test_size": config.test_size}
    outcome = train(config, data.load("cifar10", data_dir, **sizes))
    return [np.asarray(outcome.state.params[layer]["kernel"]) for layer in ("fc1", "fc2")]


def _from_resnet(data_dir: Path) -> np.ndarray:
    import torch

    path = data_dir / "resnet_cifar_karanchahal" / "resnet20_cifar10.pth"
    state = torch.load(path, weights_only=True, map_location="cpu")["model_state_dict"]
    return state["module.layer3.1.conv1.weight"][:, :, 1, 1].numpy()
