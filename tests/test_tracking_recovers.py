"""Tracking finds its way back after every kind of jump, by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrices import with_singular_values

import spectral_reg as sr

SHAPE = (96, 64)
METRICS = {
    "log_stable_rank": sr.log_stable_rank,
    "alpha": sr.alpha,
    "matrix_entropy": sr.matrix_entropy,
}
# The gradient is one of many where the largest eigenvalues are equal.
REPEATED = ("orthogonal", "two clusters")


def rng(seed=0):
    return np.random.default_rng(seed)


def blocks(place):
    """Two small blocks, far apart, and a large one at some place between zeros."""
    W = np.zeros(SHAPE)
    W[:20, :20] = rng(1).standard_normal((20, 20))
    W[40:50, 40:50] = np.diag(np.linspace(1, 2, 10))
    at = slice(place, place + 8)
    W[at, at] = 3 * rng(2).standard_normal((8, 8))
    return W


@functools.cache
@jax.numpy_dtype_promotion("standard")
def training(name):
    """The first ten steps on a loss whose gradient has noise and a few strong directions."""
    optimizer = OPTIMIZERS[name]
    params, update = 0.06 * rng().standard_normal(SHAPE), jax.jit(optimizer.update)
    params = jnp.asarray(params, jnp.float32)
    state, steps = optimizer.init(params), [params]
    signal = rng(1).standard_normal((SHAPE[0], 4)) @ rng(2).standard_normal((4, SHAPE[1]))
    for step in range(10):
        gradient = jnp.asarray(signal + rng(3 + step).standard_normal(SHAPE), jnp.float32) + params
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(params)
    return steps


NORMAL = rng().standard_normal(SHAPE)
OTHER = with_singular_values(rng(1), SHAPE, np.geomspace(30, 0.1, 64))
SEQUENCES = {
    "a jump": [NORMAL, OTHER, OTHER],
    "a jump back": [NORMAL, OTHER, NORMAL, NORMAL],
    "zero": [NORMAL, 0 * NORMAL, NORMAL, NORMAL],
    "zero at first": [0 * NORMAL, NORMAL, NORMAL],
    "NaN": [NORMAL, np.nan * NORMAL, NORMAL, NORMAL],
    "infinity": [NORMAL, np.inf * NORMAL, OTHER, OTHER],
    "orthogonal": [NORMAL, *[with_singular_values(rng(), SHAPE, np.ones(64))] * 2, OTHER],
    "rank 3": [NORMAL, *[with_singular_values(rng(), SHAPE, [3, 2, 1])] * 2, NORMAL],
    "two clusters": [
        NORMAL,
        *[with_singular_values(rng(), SHAPE, np.repeat([2.0, 1.0], 32))] * 2,
        OTHER,
    ],
    "a block that moves": [blocks(20), blocks(30), blocks(50), blocks(50)],
    "rescaled": [NORMAL, 100 * NORMAL, 100 * NORMAL],
}
OPTIMIZERS = {"AdamW": optax.adamw(5e-2), "Muon": optax.contrib.muon(2e-2)}


def tracked(metric):
    transformation = sr.add_spectral_penalty(metric, 1.0, tracking="warm")
    value_and_gradient = jax.jit(jax.value_and_grad(metric))
    return transformation.init, jax.jit(transformation.update), value_and_gradient


TRACKED = {name: tracked(metric) for name, metric in METRICS.items()}


@pytest.mark.parametrize("sequence", [*SEQUENCES, *OPTIMIZERS])
@pytest.mark.parametrize("name", METRICS)
def test_recovers_at_once(name, sequence):
    init, update, value_and_gradient = TRACKED[name]
    steps = SEQUENCES[sequence] if sequence in SEQUENCES else training(sequence)
    state = init({"kernel": jnp.asarray(steps[0], jnp.float32)})
    for W in steps:
        W = jnp.asarray(W, jnp.float32)
        updates, state = update({"kernel": jnp.zeros_like(W)}, state, {"kernel": W})
        value, gradient = value_and_gradient(W)
        if not jnp.isfinite(W).all():
            assert jnp.isnan(state.penalty)
            continue
        assert state.penalty == pytest.approx(float(value), rel=1e-3, abs=1e-3)
        reached = updates["kernel"]
        assert jnp.isfinite(reached).all()
        sizes = jnp.linalg.norm(gradient) * jnp.linalg.norm(reached)
        if sequence not in REPEATED and sizes > 0:
            assert jnp.vdot(reached, gradient) / sizes > 0.99


@pytest.mark.parametrize("scale", [1e-16, 1e-11, 1e10, 1e15])
@pytest.mark.parametrize("name", [*METRICS, "tail"])
def test_weights_of_any_size(name, scale):
    # A layer that decays, or one that explodes: squares of its eigenvalues are no float32.
    metric = METRICS.get(name, sr.spectral_metric(sr.rank_regression(0.1)))
    tracking = "tail" if name == "tail" else "warm"
    transformation = sr.add_spectral_penalty(metric, 1.0, tracking=tracking)
    params = {"kernel": jnp.asarray(scale * NORMAL, jnp.float32)}
    state, update = transformation.init(params), jax.jit(transformation.update)
    for step in range(3):
        moved = NORMAL + 0.02 * step * rng(step).standard_normal(SHAPE)
        params = {"kernel": jnp.asarray(scale * moved, jnp.float32)}
        updates, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
        value, gradient = jax.value_and_grad(metric)(jnp.asarray(moved, jnp.float32))
        assert state.penalty == pytest.approx(float(value), rel=2e-3)
        difference = jnp.linalg.norm(scale * updates["kernel"] - gradient)
        assert difference < 0.1 * jnp.linalg.norm(gradient)


def test_a_stack_recovers_where_one_of_it_jumps():
    init, update, _ = tracked(sr.log_stable_rank)
    steps = [np.stack([NORMAL, NORMAL]), np.stack([NORMAL, OTHER])]
    state = init({"kernel": jnp.asarray(steps[0], jnp.float32)})
    for W in steps:
        params = {"kernel": jnp.asarray(W, jnp.float32)}
        _, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
        values = state.values["log_stable_rank"]["kernel"]
        np.testing.assert_allclose(values, sr.log_stable_rank(params["kernel"]), atol=1e-3)
