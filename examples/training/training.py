"""Training of one network, or of one network a seed at once, with what is measured of it."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.training.config import Config
from examples.training.data import Dataset
from examples.training.outcome import Outcome, Record
from examples.training.penalties import make_optimizer
from examples.training.states import Keeper
from examples.training.steps import State, Step, initial, step_of

OnImages = Callable[[int], object]


def _batches(config: Config, epoch: int, num_images: int) -> np.ndarray:
    """Indices [steps, batch size]: every epoch has a new order, which the seed decides."""
    order = np.random.default_rng([config.seed, epoch]).permutation(num_images)
    whole = order[: config.num_steps * config.batch_size]
    return whole.reshape(config.num_steps, -1).astype(np.int32)


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
    keeper: Keeper | None = None,
) -> Outcome:
    """Trains one network and measures it.

    Every epoch takes the images in a new order, which the seed decides, whole batches only.

    Args:
        config: The run. The seed decides everything random in it.
        dataset: What `config.data` names, in the sizes that it names.
        on_images: Told, now and then, how many images were trained on since the last time.
        norms: For a norm-matched control, the `norms` of the run that it is the control of.
        optimizer: In the place of the one that the configuration names.
        keeper: Keeps the state between epochs, and restores what an earlier process kept.

    Returns:
        The state, the metrics and the arrays: from a restored state, to the bit, those of a run
        that was never interrupted.

    Raises:
        ValueError: The batch is larger than the training set, or norms are missing.
        OutOfTime: The keeper's deadline has come.
    """
    _check(config, dataset, norms)
    record = Record(config, dataset)
    if optimizer is None:
        optimizer, step = _jitted_step(dataclasses.replace(config, seed=0))
    else:
        step = jax.jit(step_of(config, record.graph, optimizer), donate_argnums=0)
    state = State(record.params, record.batch_stats, optimizer.init(record.params))
    first, state = keeper.restore(state, [record]) if keeper else (0, state)
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(record.labels)
    # Reading a result waits for the device: seldom enough to cost nothing, often enough for a bar.
    steps_per_report = max(1, 256 // config.batch_size)
    for epoch in range(first, config.epochs):
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
        if keeper:
            keeper.after_epoch(epoch + 1, state, [record])
    return record.outcome(state)


def train_ensemble(
    configs: Sequence[Config],
    dataset: Dataset,
    on_images: OnImages = lambda num_images: None,
    norms: Sequence[np.ndarray] | None = None,
    keeper: Keeper | None = None,
) -> list[Outcome]:
    """Trains runs that differ in their seeds alone, as one program: `vmap` over them, `scan` on.

    For accelerators. On a CPU a convolution inside a scan is many times slower than `train`.

    Args:
        configs: The runs.
        dataset: As for `train`.
        on_images: Told after every epoch how many images were trained on in all runs.
        norms: For norm-matched controls, those of the run that each is the control of.
        keeper: As for `train`.

    Returns:
        What `train` gives for each, to rounding.

    Raises:
        ValueError: As for `train`, or the runs differ in more than their seeds.
        OutOfTime: As for `train`.
    """
    config = configs[0]
    if len({dataclasses.replace(other, seed=0) for other in configs}) > 1:
        raise ValueError(
            f"configs is {', '.join(other.label for other in configs)}; expected runs that differ"
            " in their seeds alone"
        )
    for index, other in enumerate(configs):
        _check(other, dataset, None if norms is None else norms[index])
    records = [Record(config, dataset) for config in configs]
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
    first, state = keeper.restore(state, records) if keeper else (0, state)
    images = jnp.asarray(dataset.train_images)
    labels = jnp.stack([record.labels for record in records])
    seeds = np.array([config.seed for config in configs], np.uint32)
    for epoch in range(first, config.epochs):
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
        if keeper:
            keeper.after_epoch(epoch + 1, state, records)
    members = _members(state, len(configs))
    return [record.outcome(each) for record, each in zip(records, members, strict=True)]


def _members(state: State, number: int) -> Iterator[State]:
    for index in range(number):
        yield jax.tree.map(lambda leaf, index=index: leaf[index], state)
