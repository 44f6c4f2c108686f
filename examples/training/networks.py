"""The networks that the experiments train, and the layers of them that are looked at."""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from examples.training.config import Config
from examples.training.mini_alexnet import MiniAlexNet, chunked, max_pool, quick


class Network(Protocol):
    """What training asks of a network: logits `[n, 10]` of images `[n, 28, 28, 3]`."""

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Gives the logits."""
        ...


class LeNet5(nnx.Module):
    """Two convolutions of 20 and 50 maps and two dense layers: 2450 x 500 and 500 x 10.

    As the papers' Keras notebook has it: 5 x 5 convolutions with "same" padding, max-pooling by 2,
    no dropout, Keras' uniform Glorot weights and zero biases. Sees the first channel alone.
    """

    def __init__(self, rngs: nnx.Rngs):
        init = nnx.initializers.glorot_uniform()
        conv = partial(nnx.Conv, kernel_size=(5, 5), kernel_init=init, rngs=rngs)
        self.conv1, self.conv2 = conv(1, 20), conv(20, 50)
        self.fc1 = nnx.Linear(2450, 500, kernel_init=init, rngs=rngs)
        self.fc2 = nnx.Linear(500, 10, kernel_init=init, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Gives the logits `[n, 10]` of images `[n, 28, 28, 3]`."""
        x = chunked(lambda part: nnx.relu(max_pool(self.conv1(part), 2)), images[..., :1])
        x = chunked(lambda part: nnx.relu(max_pool(quick(self.conv2, part), 2)), x)
        return self.fc2(nnx.relu(self.fc1(x.reshape(len(x), -1))))


class Tiny(nnx.Module):
    """Three dense layers on images of 7 x 7: 147 x 64, 64 x 50 and 50 x 10; for tests.

    It has the names and the batch norm of MiniAlexNet, and compiles in a fraction of a second.
    """

    def __init__(self, rngs: nnx.Rngs, dropout: float = 0.0):
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs)
        self.norm = nnx.BatchNorm(147, momentum=0.99, epsilon=1e-3, rngs=rngs)
        self.fc1, self.fc2, self.fc3 = dense(147, 64), dense(64, 50), dense(50, 10)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, images: jax.Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Gives the logits `[n, 10]` of images `[n, 28, 28, 3]`."""
        x = jnp.mean(images.reshape(len(images), 7, 4, 7, 4, 3), (2, 4)).reshape(len(images), -1)
        x = self.norm(x, use_running_average=not train)
        for layer in (self.fc1, self.fc2):
            x = self.dropout(nnx.relu(layer(x)), deterministic=not train, rngs=rngs)
        return self.fc3(x)


# The layers whose spectra are kept, and which are penalized.
LAYERS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "mini_alexnet": {"fc1": (4096, 384), "fc2": (384, 192)},
    "lenet5": {"fc1": (2450, 500)},
    "tiny": {"fc1": (147, 64), "fc2": (64, 50)},
}


def make_network(config: Config) -> nnx.Module:
    """Makes the untrained network of a run, whose weights the seed alone decides.

    Raises:
        ValueError: The network is unknown, or has no dropout or batch norm to be set.
    """
    if config.network not in LAYERS:
        raise ValueError(f"network is {config.network!r}; expected one of {', '.join(LAYERS)}")
    rngs = nnx.Rngs(config.seed)
    dropout = dropout_rate(config)
    if config.network == "mini_alexnet":
        return MiniAlexNet(rngs, config.init, dropout=dropout, dense_norm=config.dense_norm)
    if config.dense_norm:
        raise ValueError(f"dense_norm is True; expected False for {config.network}")
    if dropout and config.network == "lenet5":
        raise ValueError("penalty is 'dropout'; expected another for lenet5, which has no dropout")
    return Tiny(rngs, dropout) if config.network == "tiny" else LeNet5(rngs)


def dropout_rate(config: Config) -> float:
    """Share of FC1's and FC2's outputs that are dropped in training; a control drops none."""
    return config.strength if config.penalty == "dropout" and not config.norm_matched else 0.0
