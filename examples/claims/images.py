"""Tasks on images: dense layers on digits or MNIST, with what is done to the labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.claims.engine import Measures, Task, as_they_are, nothing
from examples.training import data as images
from examples.training.data import NUM_CLASSES

Params = dict[str, dict[str, jax.Array]]
# Images at once where all of a split are judged: a map over seeds multiplies them.
AT_ONCE = 500


def read(name: str, folder: Path | None, *, train: int, held_out: int) -> dict[str, jax.Array]:
    """Grey images as bytes `[n, pixels]` and labels, of three splits.

    Args:
        name: `"digits"` or `"mnist"`.
        folder: That holds `mnist/`.
        train: How many to train on.
        held_out: How many for tuning, of the training images that follow, and for judging.
    """
    found = images.load(name, folder, scaling="unit", validation_size=held_out, train_size=train)
    tested = images.load(name, folder, scaling="unit", train_size=1, test_size=held_out)

    def flat(pixels: np.ndarray) -> jax.Array:
        grey = pixels[..., 0].reshape(len(pixels), -1)
        return jnp.asarray(np.round(255 * grey).astype(np.uint8))

    return {
        "images": flat(found.train_images),
        "labels": jnp.asarray(found.train_labels),
        "validation_images": flat(found.test_images),
        "validation_labels": jnp.asarray(found.test_labels),
        "test_images": flat(tested.test_images),
        "test_labels": jnp.asarray(tested.test_labels),
    }


def dense_layers(key: jax.Array, sizes: tuple[int, ...]) -> Params:
    """Kernels of variance 2 / inputs, and biases of zero."""
    keys = jax.random.split(key, len(sizes) - 1)
    scales = [jnp.sqrt(2 / inputs) for inputs in sizes[:-1]]
    return {
        f"fc{number}": {
            "kernel": scale * jax.random.normal(key, (inputs, outputs)),
            "bias": jnp.zeros(outputs),
        }
        for number, (key, scale, inputs, outputs) in enumerate(
            zip(keys, scales, sizes[:-1], sizes[1:], strict=True), start=1
        )
    }


def logits_of(params: Params, pixels: jax.Array) -> jax.Array:
    """Of inputs `[batch, inputs]`: ReLU between the layers."""
    x = pixels
    for number in range(1, len(params) + 1):
        layer = params[f"fc{number}"]
        x = x @ layer["kernel"] + layer["bias"][None]
        x = jax.nn.relu(x) if number < len(params) else x
    return x


def scaled(pixels: jax.Array) -> jax.Array:
    """Bytes to numbers from 0 to 1."""
    return pixels.astype(jnp.float32) / 255


def cross_entropy(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean over a batch of images and labels."""
    logits = logits_of(params, batch[0])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


def accuracy(params: Params, pixels: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of images `[n, pixels]`, as bytes, that the network gets right."""
    whole = len(labels) // AT_ONCE * AT_ONCE or len(labels)
    parts = pixels[:whole].reshape(-1, min(AT_ONCE, whole), pixels.shape[-1])
    right = jax.lax.map(lambda part: jnp.argmax(logits_of(params, scaled(part)), -1), parts)
    return jnp.mean((right.reshape(-1) == labels[:whole]).astype(jnp.float32))


def held_out_accuracies(data: Any, params: Params) -> Measures:
    """Of the two held-out splits."""
    return {
        split: accuracy(params, data[f"{split}_images"], data[f"{split}_labels"])
        for split in ("validation", "test")
    }


def classification(
    data: dict[str, jax.Array],
    *,
    hidden: tuple[int, ...] = (256, 256),
    batch_size: int = 128,
    noise: float = 0,
    drawn: int | None = None,
    judged: Callable[[Any, Params], Measures] = held_out_accuracies,
) -> Task:
    """The classes of images, some of the labels replaced at random once and for all.

    Args:
        data: As :func:`read` gives it.
        hidden: Sizes of the hidden layers.
        batch_size: Images a step.
        noise: Share of the training labels that are drawn anew from all classes.
        drawn: Train each run on so many of the training images, drawn by its seed; all by default.
        judged: At the end, from the data and the parameters.
    """
    sizes = (data["images"].shape[-1], *hidden, NUM_CLASSES)

    def prepared(data: Any, key: jax.Array) -> Any:
        which, what = jax.random.split(key)
        if drawn:
            rows = jax.random.permutation(which, len(data["labels"]))[:drawn]
            data = {**data, "images": data["images"][rows], "labels": data["labels"][rows]}
        others = jax.random.randint(what, data["labels"].shape, 0, NUM_CLASSES)
        noisy = jax.random.bernoulli(which, float(noise), others.shape)
        return {**data, "labels": jnp.where(noisy, others, data["labels"])}

    def batch(data: Any, key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = data["labels"].shape[0]
        rows = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, size)
        return scaled(data["images"][rows]), data["labels"][rows]

    def judge(data: Any, params: Params) -> Measures:
        fitted = accuracy(params, data["images"], data["labels"])
        return {"train": fitted, **judged(data, params)}

    def initial(key: jax.Array) -> Params:
        return dense_layers(key, sizes)

    changed = prepared if noise or drawn else as_they_are
    return Task(data, initial, changed, batch, cross_entropy, nothing, judge)


def label_sequence(
    data: dict[str, jax.Array],
    *,
    steps_a_task: int,
    num_images: int,
    hidden: tuple[int, ...] = (128, 128, 128),
    batch_size: int = 100,
) -> Task:
    """Tasks one after the other: in each, new random labels of some images are to be learned.

    Args:
        data: As :func:`read` gives it.
        steps_a_task: What is watched, at the end of each task, is the accuracy on it.
        num_images: In each task, the same ones.
        hidden: Sizes of the hidden layers.
        batch_size: Images a step.
    """
    sizes = (data["images"].shape[-1], *hidden, NUM_CLASSES)

    def labels_of(key: jax.Array, step: jax.Array) -> jax.Array:
        _, of_labels = jax.random.split(key)
        of_task = jax.random.fold_in(of_labels, step // steps_a_task)
        return jax.random.randint(of_task, (num_images,), 0, NUM_CLASSES)

    def batch(data: Any, key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_rows, _ = jax.random.split(key)
        rows = jax.random.randint(jax.random.fold_in(of_rows, step), (batch_size,), 0, num_images)
        return scaled(data["images"][rows]), labels_of(key, step)[rows]

    def watched(data: Any, params: Params, state: Any, key: jax.Array, step: jax.Array) -> Measures:
        del state
        learned = accuracy(params, data["images"][:num_images], labels_of(key, step))
        return {"learned": learned}

    def initial(key: jax.Array) -> Params:
        return dense_layers(key, sizes)

    return Task(data, initial, as_they_are, batch, cross_entropy, watched, nothing)
