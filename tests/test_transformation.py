"""The penalty in the Optax chain is the penalty in the loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectral_reg as sr

STRENGTH, STEPS = 0.05, 10
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
PENALTY = sr.add_spectral_penalty(sr.log_stable_rank, STRENGTH, mask=sr.by_path("*fc/kernel"))
CHAIN = optax.chain(PENALTY, OPTIMIZER)
X = jax.random.normal(jax.random.key(1), (16, 12))
Y = jax.random.normal(jax.random.key(2), (16, 8))


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fc = nnx.Linear(12, 8, rngs=rngs)
        self.head = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.fc(x)))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="head")(nn.relu(nn.Dense(8, name="fc")(x)))


def penalized(loss, params):
    return loss + STRENGTH * sr.spectral_penalty(
        params, sr.log_stable_rank, mask=sr.by_path("*fc/kernel")
    )


def train_nnx(transformation, in_loss):
    model = NnxNet()
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)

    def loss(model):
        value = jnp.mean((model(X) - Y) ** 2)
        return penalized(value, nnx.state(model, nnx.Param)) if in_loss else value

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    for _ in range(STEPS):
        step(model, optimizer)
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def train_linen(transformation, in_loss):
    model = LinenNet()
    params = model.init(jax.random.key(0), X)
    state = transformation.init(params)

    def loss(params):
        value = jnp.mean((model.apply(params, X) - Y) ** 2)
        return penalized(value, params) if in_loss else value

    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state)
    return params


@pytest.mark.parametrize("train", [train_nnx, train_linen])
def test_in_the_chain_as_in_the_loss(train):
    in_loss, in_chain = train(OPTIMIZER, True), train(CHAIN, False)
    without = train(OPTIMIZER, False)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, in_loss, in_chain)
    with pytest.raises(AssertionError):
        jax.tree.map(close, without, in_chain)


def kernel_tree(rng_seed=0, dtype=jnp.float32):
    W = np.random.default_rng(rng_seed).standard_normal((12, 8))
    return {"fc": {"kernel": jnp.asarray(W, dtype), "bias": jnp.zeros(8, dtype)}}


def test_state_holds_the_penalty_and_a_schedule_sees_the_count():
    params = kernel_tree()
    zeros = jax.tree.map(jnp.zeros_like, params)
    transformation = sr.add_spectral_penalty(sr.log_stable_rank, lambda count: 10.0**-count)
    state = transformation.init(params)
    gradient = jax.grad(sr.log_stable_rank)(params["fc"]["kernel"])
    for count in range(3):
        updates, state = transformation.update(zeros, state, params)
        np.testing.assert_allclose(updates["fc"]["kernel"], 10.0**-count * gradient, rtol=1e-5)
        assert jnp.all(updates["fc"]["bias"] == 0)
        assert state.penalty == pytest.approx(float(sr.log_stable_rank(params["fc"]["kernel"])))
    assert state.count == 3


def test_every_holds_the_gradient_between():
    transformation = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, every=3)
    update = jax.jit(transformation.update)
    trees = [kernel_tree(seed) for seed in range(5)]
    zeros = jax.tree.map(jnp.zeros_like, trees[0])
    state = transformation.init(trees[0])
    for count, params in enumerate(trees):
        updates, state = update(zeros, state, params)
        source = trees[count - count % 3]["fc"]["kernel"]
        np.testing.assert_allclose(
            updates["fc"]["kernel"], jax.grad(sr.log_stable_rank)(source), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("strength", [0.1, lambda count: jnp.float32(0.1)])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("of_params", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("of_updates", [jnp.float32, jnp.bfloat16])
def test_updates_keep_their_own_type(of_updates, of_params, every, strength):
    """As in mixed precision, where they are not of the weights' type."""
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, strength, every=every)
    params = kernel_tree(dtype=of_params)
    updates = jax.tree.map(lambda leaf: leaf.astype(of_updates), params)
    step = jax.jit(penalty.update)
    added, state = step(updates, penalty.init(params), params)
    assert added["fc"]["kernel"].dtype == of_updates
    added, _ = step(added, state, params)
    assert added["fc"]["kernel"].dtype == of_updates
    assert step._cache_size() == 1  # what comes out goes in again without a compilation


@pytest.mark.parametrize("options", [{}, {"tracking": "warm"}, {"tracking": "warm", "every": 3}])
def test_a_step_may_donate_the_first_state(options):
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 0.1, **options)
    params = kernel_tree()
    step = jax.jit(lambda state: penalty.update(params, state, params)[1], donate_argnums=0)
    state = penalty.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    assert jnp.isfinite(jnp.asarray(jax.tree.leaves(step(state))[1])).all()


def test_finite_on_a_zero_layer():
    params = {"fc": {"kernel": jnp.zeros((12, 8))}}
    updates, state = PENALTY.update(params, PENALTY.init(params), params)
    assert jnp.all(updates["fc"]["kernel"] == 0)
    assert state.penalty == 0


def test_each_penalty_lowers_its_metric():
    """R6: gradient descent on a metric alone moves it down."""
    for metric in (sr.log_stable_rank, sr.spectral_norm, sr.alpha, sr.target(sr.alpha, 2.0)):
        params = {"fc": {"kernel": kernel_tree()["fc"]["kernel"]}}
        optimizer = optax.chain(sr.add_spectral_penalty(metric, 1.0), optax.sgd(0.05))
        state, step = optimizer.init(params), jax.jit(optimizer.update)
        before = metric(params["fc"]["kernel"])
        for _ in range(50):
            updates, state = step(jax.tree.map(jnp.zeros_like, params), state, params)
            params = optax.apply_updates(params, updates)
        assert metric(params["fc"]["kernel"]) < 0.9 * before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": np.nan}, "strength is nan; expected a finite number"),
        ({"strength": np.inf}, "strength is inf"),
        ({"every": 0}, "every is 0; expected a whole number of at least 1"),
        ({"every": 1.5}, "every is 1.5"),
        ({"tracking": "cold"}, "tracking is 'cold'; expected exact, warm or tail"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sr.add_spectral_penalty(sr.alpha, **({"strength": 0.1} | arguments))


def test_bad_trees():
    params = {"fc": {"kernel": jnp.ones((3, 3), jnp.int32)}}
    with pytest.raises(TypeError, match="int32; expected a real floating"):
        PENALTY.init(params)
    with pytest.raises(
        ValueError,
        match=r"'\*fc/kernel' matches no path; expected one that matches some of \['head/w'\]",
    ):
        PENALTY.init({"head": {"w": jnp.ones((3, 3))}})
    floats = {"fc": {"kernel": jnp.ones((3, 3))}}
    with pytest.raises(ValueError, match="params is None"):
        PENALTY.update(floats, PENALTY.init(floats))
