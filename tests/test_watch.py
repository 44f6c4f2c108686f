"""Metrics in the optimizer's state, and the flat scalars of them."""

import functools
import re

import flax.training.train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectral_reg as sr

METRICS = {"alpha": sr.alpha, "stable_rank": sr.stable_rank, "entropy": sr.matrix_entropy}


def model():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "fc": {"kernel": jax.random.normal(keys[0], (40, 24)), "bias": jnp.zeros(24)},
        "blocks": {"kernel": jax.random.normal(keys[1], (3, 16, 16))},
    }


def ones_like(params):
    return jax.tree.map(jnp.ones_like, params)


@pytest.mark.parametrize("tracking", ["exact", "warm"])
def test_values_are_those_of_the_metrics_and_updates_pass(tracking):
    params = model()
    watch = sr.watch_spectra(METRICS, tracking=tracking)
    updates, state = jax.jit(watch.update)(ones_like(params), watch.init(params), params)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(updates))
    for name, metric in METRICS.items():
        for path, W in sr.layer_matrices(params).items():
            np.testing.assert_allclose(state.values[name][path], metric(W), rtol=1e-4)


def test_a_tail_and_norms_are_followed_beside_each_other():
    params = model()
    alpha = functools.partial(sr.alpha, estimator=sr.hill(0.2))
    watch = sr.watch_spectra({"alpha": alpha, "rank": sr.stable_rank}, tracking="tail")
    update = jax.jit(watch.update)
    state = watch.init(params)
    assert jax.tree.structure(jax.eval_shape(watch.init, params)) == jax.tree.structure(state)
    for scale in (1.0, 1.01, 1.02):
        moved = jax.tree.map(lambda leaf, scale=scale: leaf.at[0].multiply(scale), params)
        _, state = update(ones_like(params), state, moved)
        for path, W in sr.layer_matrices(moved).items():
            np.testing.assert_allclose(state.values["rank"][path], sr.stable_rank(W), rtol=1e-3)
            np.testing.assert_allclose(state.values["alpha"][path], alpha(W), rtol=1e-2)


def test_one_decomposition_serves_all_metrics_and_an_exact_penalty():
    params = {"fc": {"kernel": jax.random.normal(jax.random.key(0), (40, 24))}}
    optimizer = optax.chain(
        sr.watch_spectra(METRICS), sr.add_spectral_penalty(sr.alpha, 0.1), optax.sgd(0.1)
    )
    compiled = jax.jit(optimizer.update).lower(params, optimizer.init(params), params).compile()
    assert len(re.findall(r"custom-call.*syevd", compiled.as_text())) == 1


def test_every_measures_at_its_own_steps_without_a_retrace():
    params = model()
    watch = sr.watch_spectra(sr.stable_rank, every=3)
    update, state, seen = jax.jit(watch.update), watch.init(params), []
    for scale in range(1, 7):
        moved = {**params, "fc": {"kernel": params["fc"]["kernel"].at[0].mul(scale), "bias": None}}
        moved["fc"]["bias"] = params["fc"]["bias"]
        _, state = update(ones_like(params), state, moved)
        seen.append(float(state.values["stable_rank"]["fc/kernel"]))
    assert seen[0] == seen[1] == seen[2] != seen[3] == seen[4] == seen[5]
    assert update._cache_size() == 1


CHAINS = {
    "chain": lambda watch: optax.chain(optax.adam(1e-3), watch),
    "masked": lambda watch: optax.masked(watch, sr.by_path("*/kernel")),
    "partition": lambda watch: optax.partition(
        {"weights": optax.chain(watch, optax.sgd(0.1)), "rest": optax.sgd(0.1)},
        lambda params: jax.tree.map_with_path(
            lambda path, _: "weights" if "kernel" in sr.path_name(path) else "rest", params
        ),
    ),
    "MultiSteps": lambda watch: optax.MultiSteps(optax.chain(watch, optax.sgd(0.1)), 1),
    "whole": lambda watch: optax.inject_hyperparams(sr.watch_spectra)(sr.stable_rank, every=1),
    "inject_hyperparams": lambda watch: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(watch, optax.sgd(learning_rate))
    )(0.1),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.usefixtures("promoted_types")
def test_values_are_found_in_any_state(chain):
    params = model()
    optimizer = chain(sr.watch_spectra(sr.stable_rank))
    _, state = optimizer.update(ones_like(params), optimizer.init(params), params)
    values = sr.spectral_values(state)
    assert [*values] == [f"stable_rank/blocks/kernel[{i}]" for i in range(3)] + [
        "stable_rank/fc/kernel"
    ]
    np.testing.assert_allclose(
        values["stable_rank/fc/kernel"], sr.stable_rank(params["fc"]["kernel"]), rtol=1e-5
    )


@pytest.mark.usefixtures("promoted_types")
def test_values_are_found_in_flax_optimizers():
    network = nnx.Linear(12, 8, rngs=nnx.Rngs(0))
    chain = optax.chain(sr.watch_spectra(sr.stable_rank), optax.adam(1e-3))
    optimizer = nnx.Optimizer(network, chain, wrt=nnx.Param)
    expected = sr.stable_rank(network.kernel[...])
    optimizer.update(network, jax.tree.map(jnp.ones_like, nnx.state(network, nnx.Param)))
    np.testing.assert_allclose(
        sr.spectral_values(optimizer)["stable_rank/kernel"], expected, rtol=1e-5
    )
    np.testing.assert_allclose(
        sr.spectral_values(optimizer.opt_state)["stable_rank/kernel"], expected, rtol=1e-5
    )
    state = flax.training.train_state.TrainState.create(
        apply_fn=lambda: None, params=model(), tx=chain
    )
    state = state.apply_gradients(grads=ones_like(state.params))
    assert "stable_rank/fc/kernel" in sr.spectral_values(state)


def test_penalties_watches_and_factors_are_told_apart():
    params = model()
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.log_stable_rank, 0.1),
        sr.add_spectral_penalty(sr.hinge(sr.spectral_norm, above=1.0), 0.1),
        sr.watch_spectra(sr.log_stable_rank, mask=sr.by_path("fc/*")),
        sr.scale_by_layer_spectra(sr.linear_ratio(0.5, 1.5), sr.stable_rank),
    )
    _, state = optimizer.update(ones_like(params), optimizer.init(params), params)
    values = sr.spectral_values(state, limit=2)
    first, second = (values[f"log_stable_rank/fc/kernel{n}"] for n in ("", " (2)"))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert {"factor/fc/kernel", "stable_rank/blocks/kernel/median"} <= {*values}
    stack = sr.stable_rank(params["blocks"]["kernel"])
    for name, summary in (("min", jnp.min), ("median", jnp.median), ("max", jnp.max)):
        found = values[f"stable_rank/blocks/kernel/{name}"]
        np.testing.assert_allclose(found, summary(stack), rtol=1e-5)
    assert all(value.shape == () for value in values.values())


def test_state_maps_saves_and_goes_on_bit_for_bit():
    params = model()
    watch = sr.watch_spectra([sr.stable_rank, sr.spectral_norm], tracking="warm", every=2)
    state = watch.init(params)
    assert jax.tree.structure(state) == jax.tree.structure(
        optax.tree_utils.tree_map_params(watch, lambda leaf: leaf, state)
    )
    assert jax.tree.structure(jax.eval_shape(watch.init, params)) == jax.tree.structure(state)
    update = jax.jit(watch.update)
    for step in range(4):
        _, state = update(params, state, params)
        if step == 1:
            saved = jax.tree.map(np.asarray, state)
    for _ in range(2):
        _, saved = update(params, jax.tree.map(jnp.asarray, saved), params)
    for left, right in zip(jax.tree.leaves(state), jax.tree.leaves(saved), strict=True):
        assert (left == right).all()


def test_a_plain_function_and_options_bound_by_partial_are_watched():
    params = model()
    metrics = {
        "mine": lambda W: jnp.sum(jnp.abs(W), axis=(-2, -1)),
        "hill": functools.partial(sr.alpha, estimator=sr.hill(0.3)),
    }
    watch = sr.watch_spectra(metrics)
    _, state = watch.update(params, watch.init(params), params)
    W = params["fc"]["kernel"]
    np.testing.assert_allclose(state.values["mine"]["fc/kernel"], jnp.sum(jnp.abs(W)), rtol=1e-6)
    np.testing.assert_allclose(
        state.values["hill"]["fc/kernel"], sr.alpha(W, estimator=sr.hill(0.3)), rtol=1e-5
    )


def test_bad_input():
    params = model()
    with pytest.raises(ValueError, match="metrics is empty; expected at least one"):
        sr.watch_spectra([])
    with pytest.raises(ValueError, match="expected one of each name: give 'alpha' names"):
        sr.watch_spectra([sr.alpha, sr.alpha])
    with pytest.raises(TypeError, match="metric is 'alpha'; expected a function"):
        sr.watch_spectra(["alpha"])
    with pytest.raises(ValueError, match="tracking is 'hot'; expected exact, warm or tail"):
        sr.watch_spectra(sr.alpha, tracking="hot")
    with pytest.raises(ValueError, match="matrix_entropy reads the whole spectrum"):
        sr.watch_spectra([sr.stable_rank, sr.matrix_entropy], tracking="tail")
    with pytest.raises(ValueError, match="every is 0; expected"):
        sr.watch_spectra(sr.alpha, every=0)
    watch = sr.watch_spectra(sr.alpha)
    with pytest.raises(ValueError, match="params is None; expected parameters"):
        watch.update(params, watch.init(params))
    with pytest.raises(ValueError, match="it was made for other params or another mask"):
        watch.update(params, watch.init({"other": params}), params)
    with pytest.raises(ValueError, match="it was made for other metrics"):
        watch.update(params, sr.watch_spectra(sr.stable_rank).init(params), params)
    with pytest.raises(ValueError, match="opt_state has no spectra in it; expected"):
        sr.spectral_values(optax.adam(1e-3).init(params))
    with pytest.raises(ValueError, match="limit is -1; expected at least 0"):
        sr.spectral_values(watch.init(params), limit=-1)
