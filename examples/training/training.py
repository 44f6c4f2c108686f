"""Training of one network, or of one network a seed at once, with what is measured of it."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.training import measures
from examples.training.config import Config
from examples.training.data import NUM_CLASSES, Dataset
from examples.training.networks import LAYERS as ALL_LAYERS
from examples.training.penalties import make_optimizer
from examples.training.steps import State, Step, Totals, initial, step_of

LAYERS = tuple(ALL_LAYERS["mini_alexnet"])
NUM_IMAGES_FOR_NORMS = 1024
NUM_IMAGES_PER_EPOCH_TEST = 1000
MAX_MEASURED = 100
NUM_IMAGES_BETWEEN_MEASUREMENTS = 5000
LEAST_MEASURED = 8

OnImages = Callable[[int], object]


class Outcome(NamedTuple):
    """What a run leaves.

    Attributes:
        state: Its last state.
        metrics: `epochs` that were measured, 0 among them; training loss and accuracy of each
            epoch, as it went; test accuracy after the measured ones, on the first 1,000 images;
            both accuracies in full at the end. Batch-norm statistics are fresh in all of them but
            the training's own.
        arrays: For each layer its eigenvalues and, as `localization_LAYER`, the columns of
            `measures.LOCALIZATION`, at the measured epochs; of a penalized run, the `norms` of all
            weight matrices after every step.
    """

    state: State
    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]


def _labels(config: Config, dataset: Dataset) -> np.ndarray:
    """The training labels, some of them drawn at random if the run asks for that."""
    labels = dataset.train_labels.copy()
    rng = np.random.default_rng([config.seed, len(labels)])
    chosen = rng.permutation(len(labels))[: round(config.random_labels * len(labels))]
    labels[chosen] = rng.integers(NUM_CLASSES, size=len(chosen))
    return labels


def _batches(config: Config, epoch: int, num_images: int) -> np.ndarray:
    """Indices [steps, batch size]: every epoch has a new order, which the seed decides."""
    order = np.random.default_rng([config.seed, epoch]).permutation(num_images)
    whole = order[: config.num_steps * config.batch_size]
    return whole.reshape(config.num_steps, -1).astype(np.int32)


def measured_epochs(epochs: int, num_images: int) -> list[int]:
    """Which epochs of so many images are measured: all of them, unless they are short or many.

    A measurement looks at 2,000 images and takes two decompositions. Where that is much beside an
    epoch's training, every second or third is measured, but eight at least; of many, a hundred.
    """
    every = min(-(-NUM_IMAGES_BETWEEN_MEASUREMENTS // num_images), max(1, epochs // LEAST_MEASURED))
    number = min(MAX_MEASURED, -(-epochs // every))
    return [0, *np.unique(np.linspace(every, epochs, number).round().astype(int)).tolist()]


class _Record:
    """What is kept of one run while it trains."""

    def __init__(self, config: Config, dataset: Dataset):
        self.config, self.dataset = config, dataset
        self.graph, self.params, self.batch_stats = initial(config)
        self.labels = _labels(config, dataset)
        self.images_for_norms = jnp.asarray(dataset.train_images[:NUM_IMAGES_FOR_NORMS])
        self.epochs = measured_epochs(config.epochs, config.train_size)
        self.metrics: dict[str, Any] = {
            "epochs": self.epochs,
            "train_loss": [],
            "train_accuracy": [],
            "test_accuracy": [],
        }
        self.arrays: dict[str, list[np.ndarray]] = {}
        self._measure(self.params)

    def _measure(self, params: dict) -> None:
        for layer in ALL_LAYERS[self.config.network]:
            weights = np.asarray(params[layer]["kernel"])
            self.arrays.setdefault(layer, []).append(measures.eigenvalues(weights))
            row = measures.localization(weights)
            self.arrays.setdefault(f"localization_{layer}", []).append(row)

    def _statistics(self, state: State) -> dict:
        return measures.fresh_statistics(
            self.graph, state.params, state.batch_stats, self.images_for_norms
        )

    def epoch(self, number: int, state: State, totals: Totals) -> None:
        """Takes note of an epoch, whose totals have a leading axis of steps."""
        num_images = self.config.num_steps * self.config.batch_size
        self.metrics["train_loss"].append(float(np.sum(totals.loss)) / num_images)
        self.metrics["train_accuracy"].append(float(np.sum(totals.correct)) / num_images)
        if isinstance(totals.norms, np.ndarray):
            self.arrays.setdefault("norms", []).append(totals.norms)
        if number in self.epochs:
            self._measure(state.params)
            some = slice(NUM_IMAGES_PER_EPOCH_TEST)
            images, labels = self.dataset.test_images[some], self.dataset.test_labels[some]
            stats = self._statistics(state)
            share = measures.accuracy(self.graph, state.params, stats, images, labels)
            self.metrics["test_accuracy"].append(share)

    def outcome(self, state: State) -> Outcome:
        """Measures both accuracies in full, and gives all that was kept."""
        network = (self.graph, state.params, self._statistics(state))
        data = self.dataset
        metrics = self.metrics | {
            "final_train_accuracy": measures.accuracy(*network, data.train_images, self.labels),
            "final_test_accuracy": measures.accuracy(*network, data.test_images, data.test_labels),
        }
        arrays = {
            name: np.concatenate(parts) if name == "norms" else np.stack(parts)
            for name, parts in self.arrays.items()
        }
        return Outcome(state, metrics, arrays)


def _check(config: Config, dataset: Dataset, norms: np.ndarray | None) -> None:
    num_images = len(dataset.train_images)
    if num_images != config.train_size:
        raise ValueError(
            f"len(train_images) is {num_images}; expected {config.train_size}, as the run has it"
        )
    if config.num_steps == 0:
        raise ValueError(
            f"batch_size is {config.batch_size}; expected at most {num_images}, the number of"
            " training images: an epoch is made of whole batches"
        )
    num_steps = config.num_steps * config.epochs
    if config.norm_matched and (norms is None or len(norms) != num_steps):
        raise ValueError(
            f"norms is {None if norms is None else f'of {len(norms)} steps'}; expected those of"
            f" {num_steps} steps for {config.label}; give the norms of the run that it is the"
            " control of"
        )


@functools.lru_cache(maxsize=4)
def _jitted_step(config: Config) -> tuple[optax.GradientTransformation, Step]:
    """The optimizer and the step of a run, compiled once for all its seeds."""
    graph, _, _ = initial(config)
    optimizer = make_optimizer(config)
    return optimizer, jax.jit(step_of(config, graph, optimizer), donate_argnums=0)


def train(
    config: Config,
    dataset: Dataset,
    on_images: OnImages = lambda num_images: None,
    norms: np.ndarray | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Outcome:
    """Trains one network and measures it.

    Every epoch takes the images in a new order, which the seed decides, whole batches only.

    Args:
        config: The run. The seed decides everything random in it.
        dataset: What `config.data` names, in the sizes that it names.
        on_images: Told, now and then, how many images were trained on since the last time.
        norms: For a norm-matched control, the `norms` of the run that it is the control of.
        optimizer: In the place of the one that the configuration names.

    Returns:
        The state, the metrics and the arrays.

    Raises:
        ValueError: The batch is larger than the training set, or norms are missing.
    """
    _check(config, dataset, norms)
    record = _Record(config, dataset)
    if optimizer is None:
        optimizer, step = _jitted_step(dataclasses.replace(config, seed=0))
    else:
        step = jax.jit(step_of(config, record.graph, optimizer), donate_argnums=0)
    state = State(record.params, record.batch_stats, optimizer.init(record.params))
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(record.labels)
    # Reading a result waits for the device: seldom enough to cost nothing, often enough for a bar.
    steps_per_report = max(1, 256 // config.batch_size)
    for epoch in range(config.epochs):
        totals = []
        batches = _batches(config, epoch, len(images))
        for index, batch in enumerate(batches):
            number = epoch * config.num_steps + index
            target = None if norms is None else norms[number]
            draw = np.array([config.seed, number], np.uint32)
            state, step_totals = step(state, images, labels, batch, draw, target)
            totals.append(step_totals)
            if (index + 1) % steps_per_report == 0:
                step_totals.loss.block_until_ready()
                on_images(steps_per_report * config.batch_size)
        on_images(config.num_steps % steps_per_report * config.batch_size)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(totals))
        record.epoch(epoch + 1, state, stacked)
    return record.outcome(state)


def train_ensemble(
    configs: Sequence[Config],
    dataset: Dataset,
    on_images: OnImages = lambda num_images: None,
    norms: Sequence[np.ndarray] | None = None,
) -> list[Outcome]:
    """Trains runs that differ in their seeds alone, as one program: `vmap` over them, `scan` on.

    For accelerators. On a CPU a convolution inside a scan is many times slower than `train`.

    Args:
        configs: The runs.
        dataset: As for `train`.
        on_images: Told after every epoch how many images were trained on in all runs.
        norms: For norm-matched controls, those of the run that each is the control of.

    Returns:
        What `train` gives for each, to rounding.

    Raises:
        ValueError: As for `train`, or the runs differ in more than their seeds.
    """
    config = configs[0]
    if len({dataclasses.replace(other, seed=0) for other in configs}) > 1:
        raise ValueError(
            f"configs is {', '.join(other.label for other in configs)}; expected runs that differ"
            " in their seeds alone"
        )
    for index, other in enumerate(configs):
        _check(other, dataset, None if norms is None else norms[index])
    records = [_Record(config, dataset) for config in configs]
    optimizer = make_optimizer(config)
    step = step_of(config, records[0].graph, optimizer)
    over_seeds = jax.vmap(step, in_axes=(0, None, 0, 0, 0, None if norms is None else 0))

    @functools.partial(jax.jit, donate_argnums=0)
    def run_epoch(state: State, images: jax.Array, labels: jax.Array, feed: Any) -> Any:
        return jax.lax.scan(
            lambda state, each: over_seeds(state, images, labels, *each), state, feed
        )

    states = [State(r.params, r.batch_stats, optimizer.init(r.params)) for r in records]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    images = jnp.asarray(dataset.train_images)
    labels = jnp.stack([record.labels for record in records])
    seeds = np.array([config.seed for config in configs], np.uint32)
    for epoch in range(config.epochs):
        # The scan goes over the leading axis, steps, and the map over the next, seeds.
        batches = np.stack([_batches(each, epoch, len(images)) for each in configs], axis=1)
        steps = np.arange(config.num_steps) + epoch * config.num_steps
        draws = np.stack(np.broadcast_arrays(seeds, steps[:, None]), axis=-1).astype(np.uint32)
        target = None if norms is None else np.stack([each[steps] for each in norms], axis=1)
        state, totals = run_epoch(state, images, labels, (batches, draws, target))
        totals = jax.device_get(totals)
        for index, each in enumerate(_members(state, len(configs))):
            record_totals = jax.tree.map(lambda leaf, index=index: leaf[:, index], totals)
            records[index].epoch(epoch + 1, each, record_totals)
        on_images(batches.size)
    members = _members(state, len(configs))
    return [record.outcome(each) for record, each in zip(records, members, strict=True)]


def _members(state: State, number: int) -> Iterator[State]:
    for index in range(number):
        yield jax.tree.map(lambda leaf, index=index: leaf[index], state)
