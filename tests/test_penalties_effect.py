"""Each penalty alone, on a small network with planted structure: it moves its own metric."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spectral_reg as sr

METRICS = (
    sr.alpha,
    sr.alpha_hat,
    sr.lambda_max,
    sr.log_frobenius_norm,
    sr.log_spectral_norm,
    sr.log_stable_rank,
    sr.log_stable_rank_ratio,
    sr.matrix_entropy,
    sr.spectral_norm,
    sr.stable_rank,
)
NUM_STEPS = 200


def loss(params, x, y):
    return jnp.mean((jnp.tanh(x @ params["hidden"]["kernel"]) @ params["out"]["kernel"] - y) ** 2)


@functools.cache
def problem():
    """Three directions of 24 decide the answer; the network does not know which."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 24))
    y = np.tanh(x @ rng.standard_normal((24, 3)) / 5) @ rng.standard_normal((3, 2))
    params = {
        "hidden": {"kernel": rng.standard_normal((24, 48)) / np.sqrt(24)},
        "out": {"kernel": rng.standard_normal((48, 2)) / np.sqrt(48)},
    }
    as_float32 = functools.partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, jnp.float32))
    return as_float32(params), as_float32(x), as_float32(y)


def train(metric, strengths):
    """The hidden layer and the loss after training at each strength."""
    params, x, y = problem()

    @jax.jit
    @jax.vmap
    def run(strength):
        penalty = sr.add_spectral_penalty(metric, strength, mask=sr.by_path("hidden/kernel"))
        optimizer = optax.chain(penalty, optax.sgd(0.05, momentum=0.9))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, x, y), state, params)
            return (optax.apply_updates(params, updates), state), None

        (end, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=NUM_STEPS)
        return end["hidden"]["kernel"], loss(end, x, y)

    return run(jnp.asarray(strengths))


@functools.cache
def raised_plain_lowered(metric):
    kernel = problem()[0]["hidden"]["kernel"]
    # A force of one size for all, whatever the units of the metric.
    strength = 0.02 / jnp.linalg.norm(jax.grad(metric)(kernel))
    return train(metric, [-strength, 0.0, strength])


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_moves_its_own_metric_while_the_loss_falls(metric):
    kernels, losses = raised_plain_lowered(metric)
    raised, plain, lowered = (float(metric(W)) for W in kernels)
    assert lowered < plain < raised
    assert raised - lowered > 0.1 * abs(plain)
    # Without a penalty it falls to a hundredth.
    assert (losses < 0.02 * loss(*problem())).all()


def test_stable_rank_and_spectral_norm_pull_against_each_other():
    for metric, other in ((sr.log_stable_rank, sr.spectral_norm), (sr.spectral_norm, sr.alpha)):
        raised, plain, lowered = (float(other(W)) for W in raised_plain_lowered(metric)[0])
        assert raised < plain < lowered


def test_target_brings_alpha_to_a_value():
    for value in (2.5, 5.5):
        (plain, steered), losses = train(sr.target(sr.alpha, value), [0.0, 0.05])
        assert abs(sr.alpha(plain) - value) > 1
        assert abs(sr.alpha(steered) - value) < 0.1
        assert losses[1] < 0.02 * loss(*problem())


def test_hinge_stops_at_its_bound():
    (plain, held), _ = train(sr.hinge(sr.spectral_norm, above=2.4), [0.0, 0.05])
    assert sr.spectral_norm(plain) > 2.6
    assert 2.3 < sr.spectral_norm(held) < 2.45
    (plain, free), _ = train(sr.hinge(sr.spectral_norm, above=3.0), [0.0, 0.05])
    np.testing.assert_array_equal(plain, free)
