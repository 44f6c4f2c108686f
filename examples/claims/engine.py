"""Many runs of one training program at once: a map over trials of a scan over steps."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr

Settings = Mapping[str, jax.Array]
Measures = dict[str, jax.Array]
Optimizer = Callable[[Settings, jax.Array, int], optax.GradientTransformation]


class Task(NamedTuple):
    """What is learned. All functions are traced; the data come as an argument, never as constants.

    Attributes:
        data: Arrays on the device.
        initial: Parameters from a key.
        prepared: The data of one run, from all data and the run's key, once before it starts.
        batch: Of a step, from these data, the run's key and the step.
        loss: From the parameters and a batch.
        watched: While training, from the run's data, the parameters, the optimizer's state, the
            run's key and the step.
        judged: At the end, from the run's data and the parameters.
        in_turn: Whether trials run one after the other on a CPU: what a step of several makes may
            not fit the caches, and MiniAlexNet's takes 1.6 times as long for each of two.
    """

    data: Any
    initial: Callable[[jax.Array], Any]
    prepared: Callable[[Any, jax.Array], Any]
    batch: Callable[[Any, jax.Array, jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    watched: Callable[[Any, Any, Any, jax.Array, jax.Array], Measures]
    judged: Callable[[Any, Any], Measures]
    in_turn: bool = False


class Program(NamedTuple):
    """How it is trained; what is traced into one program.

    Attributes:
        optimizer: From the settings of a trial, a key and the number of steps.
        norms_of: The optimizer of another run, of the same seed and batches, that goes along: after
            each step the weights of this run take its norms. The norm-matched control. A setting
            `own_rate` is the rate of this run, beside the other's `rate`.
    """

    optimizer: Optimizer
    norms_of: Optimizer | None = None


class Budget(NamedTuple):
    """How long a run is: chunks of so many steps, after each of which it is watched."""

    num_chunks: int
    chunk: int

    @property
    def num_steps(self) -> int:
        """All of them."""
        return self.num_chunks * self.chunk


def nothing(*args: Any) -> Measures:
    """Watches nothing."""
    del args
    return {}


def as_they_are(data: Any, key: jax.Array) -> Any:
    """The same data for all runs."""
    del key
    return data


def run_trials(
    task: Task, program: Program, budget: Budget, settings: dict[str, Any], seeds: Any
) -> Measures:
    """Trains all trials as one compiled program.

    Args:
        task: What is learned.
        program: How.
        budget: How long.
        settings: Name to `[num_trials]`.
        seeds: `[num_trials]`. Two programs start from the same weights and see the same batches
            where their seeds are the same.

    Returns:
        Name to `[num_trials, ...]`: `"loss"` `[num_trials, num_chunks]`, the mean over each chunk;
        what is watched, likewise; and what is judged at the end, `[num_trials, ...]`.
    """
    return _run(task._replace(data=None), program, budget, task.data, settings, seeds)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    task: Task, program: Program, budget: Budget, data: Any, settings: Settings, seeds: jax.Array
) -> Measures:
    one = partial(_run_one, task, program, budget)
    if task.in_turn and jax.default_backend() == "cpu":
        return jax.lax.map(lambda trial: one(data, *trial), (settings, seeds))
    return jax.vmap(one, in_axes=(None, 0, 0))(data, settings, seeds)


def _run_one(
    task: Task, program: Program, budget: Budget, data: Any, settings: Settings, seed: jax.Array
) -> Measures:
    start, key, preparing, choice = jax.random.split(jax.random.key(seed), 4)
    data = task.prepared(data, preparing)
    own = {**settings, "rate": settings.get("own_rate", settings["rate"])}
    optimizer = program.optimizer(own, choice, budget.num_steps)
    guide = program.norms_of and program.norms_of(settings, choice, budget.num_steps)

    def advance(
        optimizer: optax.GradientTransformation, held: tuple[Any, Any], batch: Any
    ) -> tuple[tuple[Any, Any], jax.Array]:
        params, state = held
        loss, gradient = jax.value_and_grad(task.loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    def step(carry: tuple[Any, Any], index: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        run, guiding = carry
        batch = task.batch(data, key, index)
        run, loss = advance(optimizer, run, batch)
        if guide is not None:
            guiding, _ = advance(guide, guiding, batch)
            run = (_at_norms(run[0], guiding[0]), run[1])
        return (run, guiding), loss

    def chunk(carry: tuple[Any, Any], first: jax.Array) -> tuple[tuple[Any, Any], Measures]:
        carry, losses = jax.lax.scan(step, carry, first + jnp.arange(budget.chunk))
        (params, state), _ = carry
        watched = task.watched(data, params, state, key, first + budget.chunk - 1)
        return carry, {"loss": jnp.mean(losses), **watched}

    params = task.initial(start)
    guiding = None if guide is None else (params, guide.init(params))
    firsts = jnp.arange(budget.num_chunks) * budget.chunk
    carry, history = jax.lax.scan(chunk, ((params, optimizer.init(params)), guiding), firsts)
    return {**history, **task.judged(data, carry[0][0])}


def _at_norms(params: Any, others: Any) -> Any:
    norms = jax.tree.map(lambda norm: norm[None], sr.layer_norms(others))
    held = sr.hold_norms(norms=norms)
    updates, _ = held.update(jax.tree.map(jnp.zeros_like, params), held.init(params), params)
    return optax.apply_updates(params, updates)
