"""One step of training, as a pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.training.config import Config
from examples.training.data import NUM_CLASSES
from examples.training.networks import dropout_rate, make_network
from examples.training.penalties import at_norms, norms

# What a training step takes: the state, all images and labels, and the indices of the batch;
# where they are needed, the two numbers that its dropout is drawn from, and the norms to hold.
Step = Callable[..., tuple["State", "Totals"]]


class State(NamedTuple):
    """What a step changes: plain dictionaries of arrays and the optimizer's state."""

    params: dict
    batch_stats: dict
    opt_state: optax.OptState


class Totals(NamedTuple):
    """What a step reports.

    Attributes:
        loss: Sum of the losses over the batch.
        correct: Number of right answers.
        norms: Frobenius norms of the weights after the step, if they are recorded.
    """

    loss: jax.Array
    correct: jax.Array
    norms: jax.Array | tuple[()]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of every example."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def mean_squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error of the softmax of every example, its mean over the classes: Keras' "mse"."""
    targets = jax.nn.one_hot(labels, NUM_CLASSES)
    return jnp.mean((jax.nn.softmax(logits) - targets) ** 2, axis=-1)


LOSSES = {"cross_entropy": cross_entropy, "mse": mean_squared_error}


def initial(config: Config) -> tuple[nnx.GraphDef, dict, dict]:
    """Makes the untrained network, whose weights the seed alone decides.

    Returns:
        The network's structure, its parameters and its batch-norm statistics.
    """
    graph, *states = nnx.split(make_network(config), nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return graph, params, batch_stats


def make_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss: str,
    *,
    dropout: bool = False,
    record_norms: bool = False,
) -> Step:
    """Makes one step of training, a pure function still to be jitted (or mapped over seeds).

    Args:
        graph: Structure of the network.
        optimizer: What makes updates of gradients.
        loss: Name in `LOSSES`.
        dropout: Whether the network draws random numbers in training.
        record_norms: Whether the step reports the norms of the weights that it leaves.
    """
    loss_of = LOSSES[loss]

    def step(
        state: State,
        images: jax.Array,
        labels: jax.Array,
        batch: np.ndarray,
        draw: np.ndarray | None = None,
        target_norms: np.ndarray | None = None,
    ) -> tuple[State, Totals]:
        def objective(params: dict) -> tuple[jax.Array, tuple[dict, jax.Array, jax.Array]]:
            model = nnx.merge(graph, nnx.State(params), nnx.State(state.batch_stats))
            options: dict[str, Any] = {}
            if dropout:
                assert draw is not None
                key = jax.random.fold_in(jax.random.key(draw[0]), draw[1])
                options = {"rngs": nnx.Rngs(dropout=key)}
            logits = model(images[batch], train=True, **options)
            losses = loss_of(logits, labels[batch])
            correct = jnp.argmax(logits, axis=-1) == labels[batch]
            batch_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            return losses.mean(), (batch_stats, losses.sum(), correct.sum())

        grads, (batch_stats, loss_sum, correct) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if target_norms is not None:
            updates = at_norms(updates, state.params, target_norms)
        params = optax.apply_updates(state.params, updates)
        totals = Totals(loss_sum, correct, norms(params) if record_norms else ())
        return State(params, batch_stats, opt_state), totals

    return step


def step_of(config: Config, graph: nnx.GraphDef, optimizer: optax.GradientTransformation) -> Step:
    """Makes the step that a run asks for."""
    return make_step(
        graph,
        optimizer,
        config.loss,
        dropout=dropout_rate(config) > 0,
        record_norms=bool(config.penalty) and not config.norm_matched,
    )
