"""Singular values held at or below a bound after every step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import RNG
from matrices import with_singular_values

import spectral_reg as sr

FORMS = {"warm": {}, "exact": {"tracking": "exact"}, "soft": {"soft": True}}


def model():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "fc": {"kernel": jax.random.normal(keys[0], (24, 16)) / 3, "bias": jnp.zeros(16)},
        "conv": {"kernel": jax.random.normal(keys[1], (3, 3, 8, 16)) / 3},
        "blocks": {"kernel": jax.random.normal(keys[2], (3, 16, 16)) / 3},
    }


@functools.cache
def transformation(bound, form, conv):
    cap = sr.cap_spectral_norm(bound, conv=conv, **FORMS[form])
    return cap.init, jax.jit(cap.update)


def capped(params, bound, form, conv="slices"):
    init, update = transformation(bound, form, conv)
    updates, _ = update(jax.tree.map(jnp.zeros_like, params), init(params), params)
    return optax.apply_updates(params, updates)


def by_svd(W, bound):
    U, sizes, V = np.linalg.svd(np.asarray(W, np.float64), full_matrices=False)
    return U * np.minimum(sizes, bound)[..., None, :] @ V


def largest(params):
    return max(
        np.linalg.norm(W, ord=2, axis=(-2, -1)).max() for W in sr.layer_matrices(params).values()
    )


SPECTRA = {
    "few above": np.r_[2.0, 1.5, np.linspace(0.9, 0.1, 30)],
    "many above": np.linspace(1.3, 0.1, 32),
    "a cluster above": np.r_[np.full(20, 1.2), np.linspace(1, 0, 12)],
    "all above": np.linspace(4, 1.5, 32),
    "around the bound": 1 + np.linspace(0.02, -0.02, 32),
    "all at the bound": np.ones(32),
    "none above": np.linspace(0.99, 0, 32),
    "rank one": np.r_[3.0, np.zeros(31)],
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("form", FORMS)
def test_clips_as_svd_does(form, spectrum):
    rng = np.random.default_rng(0)
    W = jnp.asarray(with_singular_values(rng, (48, 32), 2 * SPECTRA[spectrum]), jnp.float32)
    params = {"tall": {"kernel": W}, "wide": {"kernel": jnp.array(W.T)}}
    after = capped(params, 2.0, form)
    tolerance = 1e-3 if form == "soft" else 2e-5
    for name, expected in (("tall", by_svd(W, 2)), ("wide", by_svd(W.T, 2))):
        assert np.linalg.norm(after[name]["kernel"] - expected, ord=2) <= 2 * tolerance


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1.2, 1.5, 3.0])
def test_a_direction_that_nothing_followed_is_cut_when_a_step_raises_it(form, size):
    U, V = (np.linalg.qr(RNG.standard_normal((40, 40)))[0] for _ in range(2))
    W = jnp.asarray((U * np.linspace(0.98, 0, 40)) @ V.T, jnp.float32)
    step = jnp.asarray(size * np.outer(U[:, -1], V[:, -1]), jnp.float32)
    init, update = transformation(1.0, form, "slices")
    params = {"kernel": W}
    state = init(params)
    for change in (0 * step, step, 0 * step):
        updates, state = update({"kernel": change}, state, params)
        params = optax.apply_updates(params, updates)
        assert np.linalg.norm(params["kernel"], ord=2) <= 1 + 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_single_entries_that_rise_do_not_pass_the_bound(form):
    init, update = transformation(1.0, form, "slices")
    params = {"kernel": jnp.zeros((24, 24))}
    state = init(params)
    for place in RNG.integers(24, size=60):
        step = jnp.zeros((24, 24)).at[place, place].set(0.6)
        updates, state = update({"kernel": step}, state, params)
        params = optax.apply_updates(params, updates)
        assert np.linalg.norm(params["kernel"], ord=2) <= 1 + 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [6.0, 20.0, 400.0, 1e5])
def test_what_is_below_the_bound_stays_however_far_another_is_above(form, size):
    sizes = np.r_[size, np.linspace(0.9, 0.1, 63)]
    W = jnp.asarray(with_singular_values(RNG, (64, 64), sizes), jnp.float32)
    after = np.linalg.svd(capped({"kernel": W}, 1.0, form)["kernel"], compute_uv=False)
    # A float32 of the largest's size resolves no more.
    tolerance = 5e-3 + 1e-6 * size
    np.testing.assert_allclose(after, np.minimum(sizes, 1), atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_a_bound_of_numpy_does_not_widen_a_weight(form, float64):
    W = jnp.asarray(with_singular_values(RNG, (24, 24), np.linspace(2, 0, 24)), jnp.float32)
    after = capped({"kernel": W}, np.float64(1.5), form)["kernel"]
    assert after.dtype == jnp.float32
    assert np.linalg.norm(after, ord=2) <= 1.5 * (1 + 1e-3)


def test_changes_made_elsewhere_add_up_until_it_is_looked_at():
    init, update = transformation(1.0, "warm", "slices")
    params = {
        "kernel": jnp.asarray(with_singular_values(RNG, (24, 24), np.full(24, 0.5)), jnp.float32)
    }
    state, zeros = init(params), {"kernel": jnp.zeros((24, 24))}
    for _ in range(1000):
        params = {"kernel": 1.0009 * params["kernel"]}
        updates, state = update(zeros, state, params)
        params = optax.apply_updates(params, updates)
    assert np.linalg.norm(params["kernel"], ord=2) <= 1 + 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_each_matrix_of_stacks_and_windows_is_clipped(form):
    params = model()
    after = capped(params, 1.5, form)
    for name, W in sr.layer_matrices(params).items():
        expected = by_svd(W, 1.5)
        assert np.abs(expected - W).max() > 0.01  # it has something to do
        np.testing.assert_allclose(sr.layer_matrices(after)[name], expected, atol=2e-3)
    assert (after["fc"]["bias"] == params["fc"]["bias"]).all()
    flat = capped(params, 1.5, form, "flatten")["conv"]["kernel"]
    np.testing.assert_allclose(
        flat.reshape(-1, 16), by_svd(params["conv"]["kernel"].reshape(-1, 16), 1.5), atol=2e-3
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("optimizer", "num_above"),
    [(optax.adamw(2e-2), 2), (optax.contrib.muon(0.1), 10)],
    ids=["AdamW", "Muon"],
)
@pytest.mark.usefixtures("promoted_types")
def test_the_bound_holds_after_every_step(optimizer, num_above, form):
    """A few directions that pull, and noise: the top is a cluster that grows, all at the bound."""
    params = {"fc": {"kernel": jax.random.normal(jax.random.key(0), (32, 24)) / 8}}
    bound = 1.5
    wanted = with_singular_values(np.random.default_rng(1), (32, 24), np.geomspace(20, 0.1, 24))
    chain = optax.chain(optimizer, sr.cap_spectral_norm(bound, **FORMS[form]))

    def train(chain):
        def step(carry, key):
            params, state = carry
            noise = jax.random.normal(key, (32, 24))
            gradient = {"fc": {"kernel": params["fc"]["kernel"] - wanted + noise}}
            updates, state = chain.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params["fc"]["kernel"]

        keys = jax.random.split(jax.random.key(2), 80)
        return np.asarray(jax.lax.scan(step, (params, chain.init(params)), keys)[1])

    free = np.linalg.svd(train(optimizer)[-1], compute_uv=False)
    assert free[0] > 2 * bound  # it has something to do
    sizes = np.linalg.svd(train(chain), compute_uv=False)
    assert sizes.max() <= bound * (1 + 1e-3)
    assert (sizes[-1] > bound * (1 - 2e-3)).sum() >= num_above


def test_a_schedule_is_the_bound_of_its_step():
    params = {"fc": {"kernel": 5 * jnp.eye(12)}}
    cap = sr.cap_spectral_norm(lambda count: 4.0 - count.astype(jnp.float32))
    state, zeros = cap.init(params), jax.tree.map(jnp.zeros_like, params)
    for bound in (4, 3, 2):
        updates, state = cap.update(zeros, state, params)
        params = optax.apply_updates(params, updates)
        assert largest(params) == pytest.approx(bound, rel=1e-6)


def test_the_bound_may_be_injected_and_set_between_steps():
    params = {"fc": {"kernel": 5 * jnp.eye(12)}}
    cap = optax.inject_hyperparams(sr.cap_spectral_norm)(bound=4.0)
    state, zeros, update = (
        cap.init(params),
        jax.tree.map(jnp.zeros_like, params),
        jax.jit(cap.update),
    )
    for bound in (4, 2):
        state.hyperparams["bound"] = jnp.float32(bound)
        updates, state = update(zeros, state, params)
        params = optax.apply_updates(params, updates)
        assert largest(params) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_degenerate_weights(form):
    zero = capped({"fc": {"kernel": jnp.zeros((12, 8))}}, 1.0, form)
    assert (zero["fc"]["kernel"] == 0).all()
    broken = capped({"fc": {"kernel": jnp.ones((12, 8)).at[0, 0].set(jnp.nan)}}, 1.0, form)
    assert np.isnan(broken["fc"]["kernel"]).any()
    tiny = capped({"fc": {"kernel": 3 * jnp.ones((2, 2))}}, 1.0, form)
    assert largest(tiny) == pytest.approx(1, rel=1e-3)


def test_bfloat16_holds_as_far_as_it_rounds():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model())
    init, update = transformation(1.5, "exact", "slices")
    updates, _ = update(jax.tree.map(jnp.zeros_like, params), init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    after = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32), optax.apply_updates(params, updates)
    )
    assert largest(after) <= 1.5 * 1.01


def test_the_state_is_a_plain_tree_and_goes_on_bit_for_bit():
    params = {"fc": {"kernel": jax.random.normal(jax.random.key(0), (32, 24))}}
    cap = sr.cap_spectral_norm(1.5)
    state, zeros, update = (
        cap.init(params),
        jax.tree.map(jnp.zeros_like, params),
        jax.jit(cap.update),
    )
    assert jax.tree.structure(jax.eval_shape(cap.init, params)) == jax.tree.structure(state)
    mapped = optax.tree_utils.tree_map_params(cap, lambda leaf: leaf, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    _, state = update(zeros, state, params)
    saved = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
    for left, right in zip(
        jax.tree.leaves(update(zeros, state, params)),
        jax.tree.leaves(update(zeros, saved, params)),
        strict=True,
    ):
        assert (left == right).all()


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_steps_cannot_carry_to_the_bound_are_not_looked_at(form):
    rng = np.random.default_rng(0)
    W = jnp.asarray(with_singular_values(rng, (24, 16), np.linspace(0.5, 0.1, 16)), jnp.float32)
    params = {"fc": {"kernel": W}}
    cap = sr.cap_spectral_norm(1.0, **FORMS[form])
    update, state = jax.jit(cap.update), cap.init(params)
    step = {"fc": {"kernel": jnp.zeros((24, 16)).at[0, 0].set(0.1)}}
    looked = []
    for _ in range(9):
        known = state.known["fc/kernel"].largest
        updates, state = update(step, state, params)
        params = optax.apply_updates(params, updates)
        largest = state.known["fc/kernel"].largest
        looked.append(not np.isclose(largest, known + 0.1, rtol=1e-5))
        assert np.linalg.norm(params["fc"]["kernel"], ord=2) <= largest * (1 + 1e-6) <= 1 + 1e-5
    assert looked[0]
    assert not any(looked[1:4])
    assert any(looked[4:])


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_another_run_are_looked_at(form):
    params = {"fc": {"kernel": 0.1 * jax.random.normal(jax.random.key(0), (24, 16))}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    cap = sr.cap_spectral_norm(2.0, **FORMS[form])
    _, state = cap.update(zeros, cap.init(params), params)
    other = {"fc": {"kernel": 3 * params["fc"]["kernel"]}}
    assert largest(other) > 2.2
    updates, _ = cap.update(zeros, state, other)
    assert largest(optax.apply_updates(other, updates)) <= 2 * (1 + 1e-3)


def test_in_bfloat16_rounding_cannot_carry_weights_past_the_bound():
    params = {"fc": {"kernel": jax.random.normal(jax.random.key(0), (64, 32), jnp.bfloat16) / 16}}
    cap = sr.cap_spectral_norm(2.0)
    # Each step is lost half of the time, and an entry moves by twice as much the other half.
    step = {"fc": {"kernel": jnp.full((64, 32), 2**-9, jnp.bfloat16)}}
    update, state = jax.jit(cap.update), cap.init(params)
    for _ in range(60):
        updates, state = update(step, state, params)
        params = optax.apply_updates(params, updates)
        wide = {"fc": {"kernel": params["fc"]["kernel"].astype(jnp.float32)}}
        assert largest(wide) <= 2 * 1.01
    assert largest(wide) > 1.9


def test_bad_input():
    fc = {"fc": {"kernel": jnp.eye(3)}}
    for bound in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"bound is .*; expected a finite number above 0"):
            sr.cap_spectral_norm(bound)
    with pytest.raises(ValueError, match="tracking is 'tail'; expected exact or warm"):
        sr.cap_spectral_norm(1.0, tracking="tail")
    with pytest.raises(ValueError, match="conv is 'pooled'; expected one of slices, flatten"):
        sr.cap_spectral_norm(1.0, conv="pooled")
    cap = sr.cap_spectral_norm(1.0)
    with pytest.raises(ValueError, match="params is None"):
        cap.update(fc, cap.init(fc))
    with pytest.raises(ValueError, match="the state's vectors is"):
        cap.update(fc, cap.init({"fc": {"kernel": jnp.eye(4)}}), fc)
