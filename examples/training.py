"""Plain training of MiniAlexNet: a Python loop over jitted steps."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import spectral_reg as sr
from examples.data import NUM_CLASSES, Dataset
from examples.mini_alexnet import MiniAlexNet

LAYERS = ("fc1", "fc2")
_EVALUATION_BATCH = 256
_NUM_IMAGES_FOR_NORMS = 1024
_NUM_IMAGES_PER_EPOCH_TEST = 1000

# What a training step takes: the state, all images and labels, and the indices of the batch.
Step = Callable[["State", jax.Array, jax.Array, np.ndarray], tuple["State", "Totals"]]


@dataclasses.dataclass(frozen=True)
class Config:
    """All that decides the outcome of one training run.

    Attributes:
        penalty: Name of a metric of `spectral_reg` that is added to the loss for FC1 and FC2, times
            `strength`; none if empty.
    """

    data: str
    train_size: int
    test_size: int
    batch_size: int
    epochs: int
    seed: int = 0
    loss: str = "cross_entropy"
    learning_rate: float = 0.01
    momentum: float = 0.9
    init: str = "glorot"
    penalty: str = ""
    strength: float = 0.0


class State(NamedTuple):
    """What a step changes: plain dictionaries of arrays and the optimizer's state."""

    params: dict
    batch_stats: dict
    opt_state: optax.OptState


class Totals(NamedTuple):
    """Sum of the losses and number of right answers over a batch."""

    loss: jax.Array
    correct: jax.Array


class Outcome(NamedTuple):
    """What a run leaves: its last state, its metrics, and its spectra after each epoch."""

    state: State
    metrics: dict[str, list[float] | float]
    eigenvalues: dict[str, np.ndarray]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of every example."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def mean_squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error of the softmax of every example, its mean over the classes: Keras' "mse"."""
    targets = jax.nn.one_hot(labels, NUM_CLASSES)
    return jnp.mean((jax.nn.softmax(logits) - targets) ** 2, axis=-1)


LOSSES = {"cross_entropy": cross_entropy, "mse": mean_squared_error}


def initial(config: Config) -> tuple[nnx.GraphDef, dict, dict]:
    """Makes the untrained network, which the seed alone decides.

    Returns:
        The network's structure, its parameters and its batch-norm statistics.
    """
    model = MiniAlexNet(nnx.Rngs(config.seed), config.init)
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return graph, params, batch_stats


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Makes SGD with momentum, the penalty's gradient added to the loss's if there is one."""
    sgd = optax.sgd(config.learning_rate, momentum=config.momentum)
    if not config.penalty:
        return sgd
    metric = getattr(sr, config.penalty)
    mask = sr.by_path(*(f"{layer}/kernel" for layer in LAYERS))
    return optax.chain(sr.add_spectral_penalty(metric, config.strength, mask=mask), sgd)


def make_step(graph: nnx.GraphDef, optimizer: optax.GradientTransformation, loss: str) -> Step:
    """Makes one step of training, a pure function still to be jitted (or mapped over seeds)."""
    loss_of = LOSSES[loss]

    def step(
        state: State, images: jax.Array, labels: jax.Array, batch: np.ndarray
    ) -> tuple[State, Totals]:
        def objective(params: dict) -> tuple[jax.Array, tuple[dict, Totals]]:
            model = nnx.merge(graph, nnx.State(params), nnx.State(state.batch_stats))
            logits = model(images[batch], train=True)
            losses = loss_of(logits, labels[batch])
            correct = jnp.argmax(logits, axis=-1) == labels[batch]
            batch_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            return losses.mean(), (batch_stats, Totals(losses.sum(), correct.sum()))

        grads, (batch_stats, totals) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, batch_stats, opt_state), totals

    return step


@functools.partial(jax.jit, static_argnums=0)
def fresh_statistics(
    graph: nnx.GraphDef, params: dict, batch_stats: dict, images: jax.Array
) -> dict:
    """Measures batch norm's statistics anew, on the images given.

    The running averages forget 1 % of their past a step. After the 36 steps that a large batch gets
    in a short run they are mostly their own starting values (seen on the digits at b = 256: 36 % of
    the test images right, and 92 % with fresh statistics), and a large batch would seem to
    generalize badly for that alone. Over the papers' 100 epochs it makes no difference.
    """
    model = nnx.merge(graph, nnx.State(params), nnx.State(batch_stats))
    model.norm1.momentum = model.norm2.momentum = 0.0
    model(images, train=True)
    return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


@functools.partial(jax.jit, static_argnums=0)
def _predict(graph: nnx.GraphDef, params: dict, batch_stats: dict, images: jax.Array) -> jax.Array:
    model = nnx.merge(graph, nnx.State(params), nnx.State(batch_stats))
    return jnp.argmax(model(images, train=False), axis=-1)


def accuracy(
    graph: nnx.GraphDef, params: dict, batch_stats: dict, images: np.ndarray, labels: np.ndarray
) -> float:
    """Gives the share of the images that the network answers right."""
    correct = 0
    for start in range(0, len(images), _EVALUATION_BATCH):
        batch = images[start : start + _EVALUATION_BATCH]
        # A last batch of another size would be compiled anew.
        padding = [(0, _EVALUATION_BATCH - len(batch)), (0, 0), (0, 0), (0, 0)]
        answers = _predict(graph, params, batch_stats, np.pad(batch, padding))
        expected = labels[start : start + _EVALUATION_BATCH]
        correct += int((np.asarray(answers)[: len(batch)] == expected).sum())
    return correct / len(images)


def spectra(params: dict) -> dict[str, np.ndarray]:
    """Gives the eigenvalues of W^T W of FC1 and FC2 in float64, descending.

    A network that diverged has NaN for all of them.
    """

    def eigenvalues(weights: np.ndarray) -> np.ndarray:
        if not np.isfinite(weights).all():
            return np.full(min(weights.shape), np.nan)
        # Ten times faster than the singular values, and what a Gram matrix loses in float64, below
        # 1e-8 of the largest singular value, is less than the weights lost in float32.
        return np.maximum(np.linalg.eigvalsh(weights.T @ weights)[::-1], 0.0)

    return {layer: eigenvalues(np.asarray(params[layer]["kernel"], np.float64)) for layer in LAYERS}


def train(
    config: Config,
    dataset: Dataset,
    on_images: Callable[[int], object] = lambda num_images: None,
    optimizer: optax.GradientTransformation | None = None,
) -> Outcome:
    """Trains one network and measures it.

    Every epoch takes the images in a new order, which the seed decides, whole batches only.

    Args:
        config: The run. The seed decides everything random in it.
        dataset: What `config.data` names, in the sizes that it names.
        on_images: Told, now and then, how many images were trained on since the last time.
        optimizer: In the place of the one that the configuration names.

    Returns:
        The state, the metrics (training loss and accuracy of each epoch, as it went; test accuracy
        after each, on the first 1,000 images; both accuracies in full at the end; fresh
        batch-norm statistics in all of them but the training's own), and the eigenvalues of FC1
        and FC2 before the first epoch and after each.

    Raises:
        ValueError: The batch is larger than the training set.
    """
    num_steps = len(dataset.train_images) // config.batch_size
    if num_steps == 0:
        raise ValueError(
            f"batch size {config.batch_size} for {len(dataset.train_images)} training images:"
            " an epoch needs at least one whole batch"
        )
    graph, params, batch_stats = initial(config)
    optimizer = optimizer or make_optimizer(config)
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    state = State(params, batch_stats, optimizer.init(params))
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels)
    images_for_norms = images[:_NUM_IMAGES_FOR_NORMS]
    some = slice(_NUM_IMAGES_PER_EPOCH_TEST)
    # Reading a result waits for the device: seldom enough to cost nothing, often enough for a bar.
    steps_per_report = max(1, 256 // config.batch_size)

    history: dict[str, list[float]] = {"train_loss": [], "train_accuracy": [], "test_accuracy": []}
    measured = [spectra(state.params)]
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(images))
        batches = order[: num_steps * config.batch_size].reshape(num_steps, -1)
        totals = []
        for index, batch in enumerate(batches.astype(np.int32), start=1):
            state, batch_totals = step(state, images, labels, batch)
            totals.append(batch_totals)
            if index % steps_per_report == 0:
                batch_totals.loss.block_until_ready()
                on_images(steps_per_report * config.batch_size)
        on_images(num_steps % steps_per_report * config.batch_size)
        loss, correct = np.sum(jax.device_get(totals), axis=0) / batches.size
        history["train_loss"].append(float(loss))
        history["train_accuracy"].append(float(correct))
        measured.append(spectra(state.params))
        stats = fresh_statistics(graph, state.params, state.batch_stats, images_for_norms)
        history["test_accuracy"].append(
            accuracy(
                graph, state.params, stats, dataset.test_images[some], dataset.test_labels[some]
            )
        )
    stats = fresh_statistics(graph, state.params, state.batch_stats, images_for_norms)
    metrics: dict[str, list[float] | float] = {
        **history,
        "final_train_accuracy": accuracy(
            graph, state.params, stats, dataset.train_images, dataset.train_labels
        ),
        "final_test_accuracy": accuracy(
            graph, state.params, stats, dataset.test_images, dataset.test_labels
        ),
    }
    eigenvalues = {layer: np.stack([at[layer] for at in measured]) for layer in LAYERS}
    return Outcome(state, metrics, eigenvalues)
