"""Recipes: the penalty in a training step of each framework."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import spectral_reg as sr

STRENGTH, STEPS = 0.3, 5
X = jax.random.normal(jax.random.key(1), (16, 12))
Y = jax.random.normal(jax.random.key(2), (16, 4))


def mean_square(predictions):
    return jnp.mean(jnp.square(predictions - Y))


def transformation(pattern, strength):
    return optax.chain(
        sr.add_spectral_penalty(sr.log_stable_rank, strength, mask=sr.by_path(pattern)),
        optax.sgd(0.1),
    )


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(12, 8, rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.fc(x)))


def train_nnx(strength):
    model = NnxNet(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, transformation("fc/kernel", strength), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: mean_square(model(X)))(model)
        optimizer.update(model, gradient)

    for _ in range(STEPS):
        step(model, optimizer)
        yield nnx.to_pure_dict(nnx.state(model, nnx.Param))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="head")(nn.relu(nn.Dense(8, name="fc")(x)))


def train_linen(strength):
    model = LinenNet()
    state = TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(0), X)["params"],
        tx=transformation("fc/kernel", strength),
    )

    @jax.jit
    def step(state):
        gradient = jax.grad(lambda params: mean_square(state.apply_fn({"params": params}, X)))
        return state.apply_gradients(grads=gradient(state.params))

    for _ in range(STEPS):
        state = step(state)
        yield state.params


class EquinoxNet(eqx.Module):
    fc: eqx.nn.Linear
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(jax.nn.relu(self.fc(x)))


def train_equinox(strength):
    keys = jax.random.split(jax.random.key(0))
    model = EquinoxNet(eqx.nn.Linear(12, 8, key=keys[0]), eqx.nn.Linear(8, 4, key=keys[1]))
    optimizer = transformation("fc/weight", strength)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state):
        gradient = eqx.filter_grad(lambda model: mean_square(jax.vmap(model)(X)))(model)
        params = eqx.filter(model, eqx.is_array)
        updates, state = optimizer.update(gradient, state, params)
        return eqx.apply_updates(model, updates), state

    for _ in range(STEPS):
        model, state = step(model, state)
        yield eqx.filter(model, eqx.is_array)


def haiku_params():
    """What ``hk.transform(...).init`` gives for two ``hk.Linear``: w [in, out] and b."""
    rng = np.random.default_rng(0)
    shapes = {"net/~/fc": (12, 8), "net/~/head": (8, 4)}
    return {
        module: {
            "w": jnp.asarray(rng.standard_normal(shape) / 3, jnp.float32),
            "b": jnp.zeros(shape[1]),
        }
        for module, shape in shapes.items()
    }


def haiku_apply(params, x):
    fc, head = params["net/~/fc"], params["net/~/head"]
    return jax.nn.relu(x @ fc["w"] + fc["b"][None]) @ head["w"] + head["b"][None]


def train_haiku(strength):
    params, optimizer = haiku_params(), transformation("net/~/fc/w", strength)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda params: mean_square(haiku_apply(params, X)))(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state)
        yield params


@pytest.mark.parametrize("train", [train_nnx, train_linen, train_equinox, train_haiku])
def test_a_training_step_of_each_framework(train):
    without, penalized = list(train(0.0)), list(train(STRENGTH))
    changed = jax.tree.map(lambda a, b: not bool(jnp.all(a == b)), without[0], penalized[0])
    flags = {sr.path_name(path): flag for path, flag in jax.tree.leaves_with_path(changed)}
    (fc,) = (name for name, flag in flags.items() if flag)
    assert fc.rsplit("/", 1)[0].endswith("fc")
    ranks = [
        float(sr.log_stable_rank(sr.layer_matrices(steps[-1])[fc]))
        for steps in (without, penalized)
    ]
    assert ranks[1] < ranks[0] - 0.05


def test_haiku_weights_are_matrices_by_default():
    params = haiku_params() | {
        "norm": {"scale": jnp.ones((3, 4)), "offset": jnp.ones((3, 4))},
        "conv2_d": {"w": jnp.ones((3, 3, 4, 5))},
        "embed": {"embeddings": jnp.ones((7, 3))},
    }
    shapes = {name: W.shape for name, W in sr.layer_matrices(params).items()}
    assert shapes == {
        "conv2_d/w": (3, 3, 4, 5),
        "embed/embeddings": (7, 3),
        "net/~/fc/w": (12, 8),
        "net/~/head/w": (8, 4),
    }
