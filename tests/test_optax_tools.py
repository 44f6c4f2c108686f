"""The penalty beside Optax's own tools: masks, partitions, schedules, clipping, Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spectral_reg as sr


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


@pytest.mark.usefixtures("promoted_types")
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


@pytest.mark.usefixtures("promoted_types")
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
@pytest.mark.usefixtures("promoted_types")
def test_muon(where):
    """Muon orthogonalises what comes before it; a penalty behind it is decoupled."""
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0 if where == "before" else -0.1)
    parts = [penalty, optax.contrib.muon(0.1)]
    optimizer = optax.chain(*(parts if where == "before" else reversed(parts)))
    params, state, update = PARAMS, optimizer.init(PARAMS), jax.jit(optimizer.update)
    for _ in range(5):
        updates, state = update(ZEROS, state, params)
        params = optax.apply_updates(params, updates)
    for name, layer in params.items():
        before, after = (sr.log_stable_rank(W) for W in (PARAMS[name]["kernel"], layer["kernel"]))
        assert after < before - 0.02
        assert jnp.all(layer["bias"] == PARAMS[name]["bias"])


@pytest.mark.usefixtures("promoted_types")
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
