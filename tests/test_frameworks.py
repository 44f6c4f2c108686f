"""Recipes: the penalty in a training step of each framework, and beside Optax's own tools."""

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


def params_of(*names):
    rng = np.random.default_rng(0)
    return {
        name: {"kernel": jnp.asarray(rng.standard_normal((6, 4)), jnp.float32), "bias": jnp.ones(4)}
        for name in names
    }


PARAMS = params_of("fc1", "fc2")
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
GRADIENT = {name: jax.grad(sr.log_stable_rank)(PARAMS[name]["kernel"]) for name in PARAMS}


def first_update(optimizer, params=PARAMS):
    updates, _ = jax.jit(optimizer.update)(ZEROS, optimizer.init(params), params)
    return updates


def check(updates, strengths):
    """The kernels get the penalty's gradient times a strength each, the biases nothing."""
    for name, strength in strengths.items():
        expected = strength * GRADIENT[name]
        np.testing.assert_allclose(updates[name]["kernel"], expected, rtol=1e-4, atol=1e-6)
        assert jnp.all(updates[name]["bias"] == 0)


def test_masked():
    mask = {"fc1": True, "fc2": False}
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 2.0)
    check(first_update(optax.masked(penalty, mask)), {"fc1": 2.0, "fc2": 0.0})
    check(first_update(optax.masked(penalty, sr.by_path("fc2/*"))), {"fc1": 0.0, "fc2": 2.0})


@pytest.mark.parametrize("tracking", ["exact", "warm"])
def test_partition(tracking):
    labels = {"fc1": "strong", "fc2": {"kernel": "weak", "bias": "none"}}
    optimizer = optax.partition(
        {
            "strong": sr.add_spectral_penalty(sr.log_stable_rank, 2.0, tracking=tracking),
            "weak": sr.add_spectral_penalty(sr.log_stable_rank, 0.5, tracking=tracking),
            "none": optax.identity(),
        },
        labels,
    )
    check(first_update(optimizer), {"fc1": 2.0, "fc2": 0.5})


def test_multi_steps_recompute_once_for_all_their_small_steps():
    optimizer = optax.MultiSteps(sr.add_spectral_penalty(sr.log_stable_rank, 2.0), 3)
    state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
    for step in range(1, 7):
        updates, state = update(ZEROS, state, PARAMS)
        strength = 2.0 if step % 3 == 0 else 0.0
        check(updates, {"fc1": strength, "fc2": strength})
    assert state.inner_opt_state.count == 2


STATIC = optax.inject_hyperparams(sr.add_spectral_penalty, static_args=("metric", "mask", "every"))
FACTORIES = {
    "a function of the strength": optax.inject_hyperparams(
        lambda strength: sr.add_spectral_penalty(sr.log_stable_rank, strength)
    ),
    "static arguments": lambda strength: STATIC(sr.log_stable_rank, strength, every=1),
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_a_new_strength_traces_nothing_anew(factory):
    optimizer, num_traces = factory(strength=2.0), 0

    @jax.jit
    def update(state):
        nonlocal num_traces
        num_traces += 1
        return optimizer.update(ZEROS, state, PARAMS)

    state = optimizer.init(PARAMS)
    for strength in (2.0, 0.5, 0.0, -1.0):
        state.hyperparams["strength"] = jnp.asarray(strength)
        updates, state = update(state)
        check(updates, {"fc1": strength, "fc2": strength})
    assert num_traces == 1


@pytest.mark.parametrize("injected", [False, True])
def test_a_schedule_of_the_strength(injected):
    schedule = optax.linear_schedule(0.0, 2.0, transition_steps=4)
    if injected:
        optimizer = FACTORIES["a function of the strength"](strength=schedule)
    else:
        optimizer = sr.add_spectral_penalty(sr.log_stable_rank, schedule)
    state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
    for strength in (0.0, 0.5, 1.0, 1.5, 2.0, 2.0):
        updates, state = update(ZEROS, state, PARAMS)
        check(updates, {"fc1": strength, "fc2": strength})


def test_clipping_after_the_penalty_bounds_it_and_before_does_not():
    penalty, clip = sr.add_spectral_penalty(sr.log_stable_rank, 2.0), optax.clip_by_global_norm(0.1)
    assert optax.tree.norm(first_update(optax.chain(penalty, clip))) == pytest.approx(0.1)
    check(first_update(optax.chain(clip, penalty)), {"fc1": 2.0, "fc2": 2.0})


def test_adamw_with_a_mask_of_paths():
    kernels = sr.by_path("*/kernel")
    decay = optax.adamw(0.1, weight_decay=0.01, mask=kernels)
    updates = first_update(decay)
    for name, layer in PARAMS.items():
        np.testing.assert_allclose(updates[name]["kernel"], -1e-3 * layer["kernel"], rtol=1e-5)
        assert jnp.all(updates[name]["bias"] == 0)
    # Adam's first step is the sign of what it is given, so that of the penalty's gradient.
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 2.0, mask=kernels)
    both = first_update(optax.chain(penalty, decay))
    for name in PARAMS:
        expected = updates[name]["kernel"] - 0.1 * jnp.sign(GRADIENT[name])
        np.testing.assert_allclose(both[name]["kernel"], expected, rtol=1e-3)


@pytest.mark.parametrize("where", ["before", "after"])
def test_muon(where):
    """Muon orthogonalises what comes before it; a penalty behind it is decoupled."""
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0 if where == "before" else -0.1)
    parts = [penalty, optax.contrib.muon(0.1)]
    optimizer = optax.chain(*(parts if where == "before" else reversed(parts)))
    params, state, update = PARAMS, optimizer.init(PARAMS), jax.jit(optimizer.update)
    for _ in range(STEPS):
        updates, state = update(ZEROS, state, params)
        params = optax.apply_updates(params, updates)
    for name, layer in params.items():
        before, after = (sr.log_stable_rank(W) for W in (PARAMS[name]["kernel"], layer["kernel"]))
        assert after < before - 0.02
        assert jnp.all(layer["bias"] == PARAMS[name]["bias"])


def test_muon_and_the_penalty_agree_on_the_axes():
    """The same matrix for both, told in the words of each."""
    params = {"w_in": jnp.asarray(np.random.default_rng(0).standard_normal((6, 2, 3)), jnp.float32)}
    mask = {"w_in": True}
    axes = {"w_in": sr.MatrixAxes(rows=0, cols=(1, 2))}
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, mask=mask, axes=axes)
    dimensions = {"w_in": optax.contrib.MuonDimensionNumbers(0, (1, 2))}
    optimizer = optax.chain(
        penalty, optax.contrib.muon(0.1, muon_weight_dimension_numbers=dimensions)
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    reference = jax.grad(sr.log_stable_rank)(params["w_in"].reshape(6, 6))
    U, _, Vt = jnp.linalg.svd(reference)
    direction = -updates["w_in"].reshape(6, 6)
    # Newton-Schulz makes the singular values only about equal, in the gradient's own vectors.
    aligned = jnp.diagonal(U.T @ direction @ Vt.T)
    assert jnp.all(aligned[:-1] > 0)
    assert jnp.linalg.norm(aligned) > 0.99 * jnp.linalg.norm(direction)
