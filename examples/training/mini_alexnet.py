"""MiniAlexNet, the network that the papers retrain to see the phases of training."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from examples.training.winograd import convolve

# A normal cut at two standard deviations has 0.8796 of its deviation. Keras did not correct for it
# when the papers' networks were trained; JAX does.
CUT_DEVIATION = 0.87962566103423978
CHUNK = 32

# Multiplications and additions of one image, forward; backward takes as many for the weights, and
# again as many for the inputs of every layer but the first.
CONV1 = 2 * 28 * 28 * 25 * 3 * 96
CONV2 = 2 * 10 * 10 * 25 * 96 * 256
DENSE = 2 * (4096 * 384 + 384 * 192 + 192 * 10)
FLOPS = 2 * CONV1 + 3 * (CONV2 + DENSE)

INITS = {
    "glorot": nnx.initializers.glorot_normal(),
    "original": nnx.initializers.variance_scaling(CUT_DEVIATION**2, "fan_avg", "truncated_normal"),
}


def _in_windows(images: jax.Array, window: int) -> jax.Array:
    """Cuts images with "SAME" padding into windows that do not overlap."""
    n, height, width, channels = images.shape
    rows, cols = -(-height // window), -(-width // window)
    pad = [_margins(side, window) for side in (height, width)]
    padded = jnp.pad(images, ((0, 0), *pad, (0, 0)), constant_values=-jnp.inf)
    return padded.reshape(n, rows, window, cols, window, channels)


def _margins(side: int, window: int) -> tuple[int, int]:
    excess = -side % window
    return excess // 2, excess - excess // 2


def _over_windows(values: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """Repeats the value of each window at each of its pixels."""
    for axis, side in ((1, height), (2, width)):
        start = _margins(side, window)[0]
        repeated = jnp.repeat(values, window, axis)
        values = jax.lax.slice_in_dim(repeated, start, start + side, axis=axis)
    return values


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(images: jax.Array, window: int = 3) -> jax.Array:
    """Max-pooling with a stride equal to its window and "SAME" padding.

    Windows that do not overlap are a reshape, and the gradient is one pass over the pixels: those
    that are the largest of their window share its gradient. On a CPU `reduce_window` and its
    gradient take five times as long, and the reshape with JAX's own gradient twice.

    Args:
        images: `[n, height, width, channels]`.
        window: Side of the window, and its stride.

    Returns:
        `[n, ceil(height / window), ceil(width / window), channels]`.
    """
    return _in_windows(images, window).max((2, 4))


def _max_pool_forward(
    images: jax.Array, window: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    largest = max_pool(images, window)
    return largest, (images, largest)


def _max_pool_backward(
    window: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    images, largest = kept
    everywhere = partial(
        _over_windows, window=window, height=images.shape[1], width=images.shape[2]
    )
    among = _in_windows(images, window) == largest[:, :, None, :, None, :]
    number = jnp.sum(among, (2, 4), dtype=gradient.dtype)
    return (jnp.where(images == everywhere(largest), everywhere(gradient / number), 0),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def chunked(layers: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Applies layers to 32 images at a time where XLA runs on a CPU.

    What they make of more images falls out of the caches: at b = 500 XLA's own second convolution
    of MiniAlexNet, forward and backward, took 2.3 s whole and 1.35 s in chunks, to 5e-7 the same.

    Args:
        layers: From images to images, each by itself.
        images: `[n, height, width, channels]`.
    """
    if len(images) <= CHUNK or jax.default_backend() != "cpu":
        return layers(images)
    starts = range(0, len(images), CHUNK)
    return jnp.concatenate([layers(images[start : start + CHUNK]) for start in starts])


def quick(layer: nnx.Conv, images: jax.Array) -> jax.Array:
    """Applies a 5 x 5 convolution of many channels, where XLA runs on a CPU by Winograd's way."""
    if jax.default_backend() != "cpu":
        return layer(images)
    assert layer.bias is not None
    return convolve(images, layer.kernel[...]) + layer.bias[...][None, None, None]


class MiniAlexNet(nnx.Module):
    """Two convolutions and three dense layers: 4096 x 384, 384 x 192 and 192 x 10.

    Args:
        rngs: Randomness of the initial weights.
        init: `"glorot"`, or `"original"` for the somewhat smaller weights that the papers' version
            of Keras drew: Marchenko-Pastur edge of FC1 2.41 instead of 3.12.
        dropout: Share of the outputs of FC1 and FC2 that training drops.
        dense_norm: Whether FC1 and FC2 are followed by batch norm, as in the papers' run with
            dropout.
        in_scan: Whether to make the first convolution of products too, on a CPU. A step then takes
            1.4 times as long, and inside a `lax.scan`, where XLA's convolution is a slow one, 0.3
            times.

    Raises:
        ValueError: `init` is neither.
    """

    def __init__(
        self,
        rngs: nnx.Rngs,
        init: str = "glorot",
        *,
        dropout: float = 0.0,
        dense_norm: bool = False,
        in_scan: bool = False,
    ):
        if init not in INITS:
            raise ValueError(f"init is {init!r}; expected one of {', '.join(INITS)}")
        kernel_init, bias_init = INITS[init], nnx.initializers.constant(0.1)
        conv = partial(
            nnx.Conv, kernel_size=(5, 5), kernel_init=kernel_init, bias_init=bias_init, rngs=rngs
        )
        norm = partial(nnx.BatchNorm, momentum=0.99, epsilon=1e-3, rngs=rngs)
        dense = partial(nnx.Linear, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs)
        self.conv1, self.norm1 = conv(3, 96), norm(96)
        self.conv2, self.norm2 = conv(96, 256), norm(256)
        self.fc1, self.fc2, self.fc3 = dense(4096, 384), dense(384, 192), dense(192, 10)
        self.dropout = nnx.Dropout(dropout)
        self.dense_norm, self.in_scan = dense_norm, in_scan
        if dense_norm:
            self.norm3, self.norm4 = norm(384), norm(192)

    def __call__(
        self, images: jax.Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Gives the logits `[n, 10]` of images `[n, 28, 28, 3]`.

        Args:
            images: Standardised images.
            train: Whether to normalize by the batch's own statistics, and to remember them.
            rngs: Randomness of the dropout.
        """
        first = partial(quick, self.conv1) if self.in_scan else self.conv1
        x = chunked(lambda part: nnx.relu(max_pool(first(part))), images)
        x = self.norm1(x, use_running_average=not train)
        x = chunked(lambda part: nnx.relu(max_pool(quick(self.conv2, part))), x)
        x = self.norm2(x, use_running_average=not train)
        x = x.reshape(len(x), -1)
        for number, layer in enumerate((self.fc1, self.fc2), start=3):
            x = nnx.relu(layer(x))
            if self.dense_norm:
                x = getattr(self, f"norm{number}")(x, use_running_average=not train)
            x = self.dropout(x, deterministic=not train, rngs=rngs)
        return self.fc3(x)
