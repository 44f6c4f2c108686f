"""The task of MiniAlexNet on CIFAR-10."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from examples.claims.engine import Measures, Task, as_they_are, nothing
from examples.training.data import load
from examples.training.measures import fresh_statistics
from examples.training.mini_alexnet import CHUNK, MiniAlexNet

SMOKE: dict[str, Any] = {"name": "digits", "train": 64, "held_out": 32, "batch_size": 2}
# Batch norm's statistics for judging are those of so many training images.
NORMED = 256


def task(
    folder: Path | None,
    *,
    name: str = "cifar10",
    train: int = 5000,
    held_out: int = 5000,
    batch_size: int = 32,
) -> Task:
    """The classes of images, by cross-entropy.

    Args:
        folder: That holds the images.
        name: Of the data.
        train: How many to train on.
        held_out: At most so many for tuning, from the end of the training images, and for judging.
        batch_size: Images a step.

    Returns:
        The task; it is judged by `"validation"` and `"test"`, shares of right answers. Its trials
        run one after the other on a CPU.
    """
    found = load(name, folder, validation_size=held_out, train_size=train)
    tested = load(name, folder, train_size=1, test_size=held_out)
    data = {
        "images": jnp.asarray(found.train_images),
        "labels": jnp.asarray(found.train_labels),
        "validation": (jnp.asarray(found.test_images), jnp.asarray(found.test_labels)),
        "test": (jnp.asarray(tested.test_images), jnp.asarray(tested.test_labels)),
    }
    graph, *states = nnx.split(MiniAlexNet(nnx.Rngs(0), in_scan=True), nnx.Param, nnx.BatchStat)
    first_statistics = nnx.to_pure_dict(states[1])

    def initial(key: jax.Array) -> Any:
        model = MiniAlexNet(nnx.Rngs(key), in_scan=True)
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def logits_of(params: Any, statistics: Any, images: jax.Array, *, train: bool) -> jax.Array:
        model = nnx.merge(graph, nnx.State(params), nnx.State(statistics))
        return model(images, train=train)

    def batch(data: Any, key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = data["labels"].shape[0]
        rows = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, size)
        return data["images"][rows], data["labels"][rows]

    def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = logits_of(params, first_statistics, batch[0], train=True)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    def judge(data: Any, params: Any) -> Measures:
        statistics = fresh_statistics(graph, params, first_statistics, data["images"][:NORMED])

        def right(part: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits = logits_of(params, statistics, part[0], train=False)
            return jnp.mean((jnp.argmax(logits, axis=-1) == part[1]).astype(jnp.float32))

        def accuracy(images: jax.Array, labels: jax.Array) -> jax.Array:
            whole = len(labels) // CHUNK * CHUNK
            parts = images[:whole].reshape(-1, CHUNK, *images.shape[1:])
            return jnp.mean(jax.lax.map(right, (parts, labels[:whole].reshape(-1, CHUNK))))

        splits = {"train": (data["images"], data["labels"])}
        splits |= {split: data[split] for split in ("validation", "test")}
        return {split: accuracy(*pair) for split, pair in splits.items()}

    return Task(data, initial, as_they_are, batch, loss, nothing, judge, in_turn=True)
