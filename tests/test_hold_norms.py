"""Norms held to the start's, or to those of a recorded run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import RNG

import spectral_reg as sr


def model(key=0):
    keys = jax.random.split(jax.random.key(key), 3)
    return {
        "fc": {"kernel": jax.random.normal(keys[0], (48, 32)), "bias": jnp.zeros(32)},
        "conv": {"kernel": 0.3 * jax.random.normal(keys[1], (3, 3, 8, 16))},
        "blocks": {"kernel": jax.random.normal(keys[2], (3, 24, 24))},
    }


def direct_norms(params, kind):
    """By singular values, each layer by itself."""
    ord_ = "fro" if kind == "frobenius" else 2
    conv = np.asarray(params["conv"]["kernel"], np.float64)
    whole = np.linalg.norm(conv)
    slices = np.max(np.linalg.norm(conv, ord=2, axis=(-2, -1)))
    return {
        "fc/kernel": np.linalg.norm(np.asarray(params["fc"]["kernel"], np.float64), ord=ord_),
        "conv/kernel": whole if kind == "frobenius" else slices,
        "blocks/kernel": np.linalg.norm(
            np.asarray(params["blocks"]["kernel"], np.float64), ord=ord_, axis=(-2, -1)
        ),
    }


@pytest.mark.parametrize("kind", ["frobenius", "spectral"])
def test_layer_norms_are_those_of_numpy(kind):
    params = model()
    for name, norm in direct_norms(params, kind).items():
        np.testing.assert_allclose(sr.layer_norms(params, kind)[name], norm, rtol=1e-6)


@functools.cache
def trained(kind, steps):
    """Norms after each step of a noisy descent, held and free."""
    params = model()
    wanted = model(1)

    def train(optimizer):
        def step(carry, key):
            params, state = carry
            gradient = jax.tree.map(
                lambda p, w: p - w + jax.random.normal(key, p.shape), params, wanted
            )
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), sr.layer_norms(params, kind)

        keys = jax.random.split(jax.random.key(2), steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)

    free = train(optax.adam(3e-3))
    held = train(optax.chain(optax.adam(3e-3), sr.hold_norms(kind)))
    replay = train(optax.chain(optax.adam(1e-2), sr.hold_norms(kind, norms=free[1])))
    return params, free, held, replay


@pytest.mark.slow
# The largest singular value is followed, not decomposed.
@pytest.mark.parametrize(("kind", "tolerance"), [("frobenius", 1e-6), ("spectral", 3e-5)])
@pytest.mark.usefixtures("promoted_types")
def test_norms_stay_over_a_hundred_steps_or_follow_a_recorded_run(kind, tolerance):
    params, free, held, replay = trained(kind, 100)
    for name, start in direct_norms(params, kind).items():
        norms = np.asarray(held[1][name], np.float64)
        np.testing.assert_allclose(norms, np.broadcast_to(start, norms.shape), rtol=tolerance)
        assert abs(np.asarray(free[1][name]) / start - 1).max() > 0.02  # it has something to do
        np.testing.assert_allclose(replay[1][name], free[1][name], rtol=tolerance)
    assert not np.array_equal(held[0][0]["fc"]["bias"], params["fc"]["bias"])


def test_a_direction_that_nothing_followed_is_seen_when_a_step_raises_it():
    U, V = (np.linalg.qr(RNG.standard_normal((40, 40)))[0] for _ in range(2))
    params = {"kernel": jnp.asarray((U * np.linspace(0.98, 0, 40)) @ V.T, jnp.float32)}
    hold = sr.hold_norms("spectral")
    update, state = jax.jit(hold.update), hold.init(params)
    step = jnp.asarray(1.3 * np.outer(U[:, -1], V[:, -1]), jnp.float32)
    for change in (0 * step, step, 0 * step):
        updates, state = update({"kernel": change}, state, params)
        params = optax.apply_updates(params, updates)
        assert np.linalg.norm(params["kernel"], ord=2) == pytest.approx(0.98, rel=1e-3)


def test_past_the_end_of_a_record_the_last_norm_is_held():
    params = {"fc": {"kernel": jnp.eye(2)}}
    hold = sr.hold_norms(norms={"fc/kernel": jnp.array([2.0, 3.0])})
    state = hold.init(params)
    for norm in (2, 3, 3, 3):
        updates, state = hold.update(jax.tree.map(jnp.zeros_like, params), state, params)
        after = optax.apply_updates(params, updates)["fc"]["kernel"]
        assert float(jnp.linalg.norm(after)) == pytest.approx(norm, rel=1e-6)


def test_zero_weights_stay_zero_and_finite():
    params = {"fc": {"kernel": jnp.zeros((4, 3))}, "out": {"kernel": jnp.ones((3, 2))}}
    for kind in ("frobenius", "spectral"):
        hold = sr.hold_norms(kind)
        updates, _ = hold.update(jax.tree.map(jnp.zeros_like, params), hold.init(params), params)
        assert not any(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(updates))


def test_updates_keep_their_dtype_and_the_norm_as_far_as_it_rounds():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model())
    hold = sr.hold_norms()
    updates, _ = hold.update(jax.tree.map(lambda leaf: leaf / 2, params), hold.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    after = optax.apply_updates(params, updates)
    for name, norm in sr.layer_norms(params).items():
        np.testing.assert_allclose(sr.layer_norms(after)[name], norm, rtol=1e-2)


@pytest.mark.parametrize(
    ("leaf", "told"),
    [(jnp.eye(3, dtype=complex), "complex"), (jnp.eye(3, dtype=int), "int"), ((0, 4, 4), "0, 4")],
)
def test_what_is_no_real_weight_is_refused(leaf, told):
    params = {"kernel": jnp.zeros(leaf) if isinstance(leaf, tuple) else leaf}
    for function in (sr.layer_norms, sr.hold_norms().init, sr.cap_spectral_norm(1.0).init):
        with pytest.raises(TypeError, match=f"'kernel' has shape .*{told}.*expected real"):
            function(params)


def test_bad_input():
    with pytest.raises(ValueError, match="kind is 'nuclear'; expected 'frobenius' or 'spectral'"):
        sr.hold_norms("nuclear")
    with pytest.raises(ValueError, match="kind is 'nuclear'; expected"):
        sr.layer_norms(model(), "nuclear")
    fc = {"fc": {"kernel": jnp.eye(3)}}
    for norms in (
        {"fc/kernel": jnp.ones(())},
        {"fc/kernel": jnp.ones((5, 2))},
        {"other": jnp.ones(5)},
        {"fc/kernel": jnp.ones(0)},
    ):
        with pytest.raises(ValueError, match=r"norms is of shapes .*; expected one more axis"):
            sr.hold_norms(norms=norms).init(fc)
    replay = sr.hold_norms(norms={"fc/kernel": jnp.ones(5)})
    two = {**fc, "out": {"kernel": jnp.eye(3)}}
    with pytest.raises(ValueError, match=r"norms is of shapes .*; expected one more axis"):
        replay.update(two, replay.init(fc), two)
    with pytest.raises(ValueError, match="params is None"):
        sr.hold_norms().update(fc, sr.hold_norms().init(fc))
    for kind in ("frobenius", "spectral"):
        hold = sr.hold_norms(kind)
        other = hold.init({"fc": {"kernel": jnp.eye(4)}, "out": {"kernel": jnp.eye(4)}})
        with pytest.raises(ValueError, match="the state's norms is"):
            hold.update(fc, other, fc)


@pytest.mark.parametrize("optimizer", [sr.hold_norms(), sr.cap_spectral_norm(1.0)])
def test_shapes_without_values_are_refused_with_what_gives_a_state_of_shapes(optimizer):
    params = {"kernel": jnp.ones((4, 3))}
    shapes = jax.eval_shape(lambda: params)
    with pytest.raises(TypeError, match=r"'kernel' is a shape without values.*jax\.eval_shape"):
        optimizer.init(shapes)
    state = jax.eval_shape(optimizer.init, params)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))


def test_a_list_of_records_is_refused_with_what_makes_a_mapping_of_it():
    record = [sr.layer_norms({"fc": {"kernel": jnp.ones((3, 2))}})]
    with pytest.raises(TypeError, match=r"norms is list; expected a mapping .* jnp\.stack"):
        sr.hold_norms(norms=record)
