"""What Optax's own tests ask of its transformations, asked of the penalty."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spectral_reg as sr
from spectral_reg._optax_state import is_placeholder

# It is about what Optax does around the penalty, and Optax relies on promotion of types.
pytestmark = pytest.mark.usefixtures("promoted_types")

OPTIONS = {
    "exact": {},
    "every": {"every": 3},
    "warm norms": {"tracking": "warm"},
    "warm norms, every": {"tracking": "warm", "every": 2},
    "warm spectrum": {"metric": sr.alpha, "tracking": "warm"},
}


def penalty(strength=0.5, metric=sr.log_stable_rank, **options):
    return sr.add_spectral_penalty(metric, strength, **options)


def params_of(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {
        "fc": {
            "kernel": jnp.asarray(rng.standard_normal((6, 4)), dtype),
            "bias": jnp.ones(4, dtype),
        },
        "stack": {"kernel": jnp.asarray(rng.standard_normal((3, 6, 4)), dtype)},
    }


PARAMS = params_of()
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
GRADIENT = jax.jit(jax.grad(lambda params: sr.spectral_penalty(params, sr.log_stable_rank)))(PARAMS)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), a, b)


def part(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def times(number, tree):
    return jax.tree.map(lambda leaf: number * leaf, tree)


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_state_keeps_its_structure_and_types(options, dtype):
    optimizer, params = penalty(**options), params_of(dtype)
    state = optimizer.init(params)
    updates, after = jax.eval_shape(optimizer.update, params, state, params)
    assert types(state) == types(after)
    assert types(updates) == types(params)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_init_of_shapes_alone(options):
    optimizer = penalty(**options)
    state = optimizer.init(PARAMS)
    abstract = optimizer.init(jax.eval_shape(lambda: PARAMS))
    jax.tree.map(np.testing.assert_array_equal, abstract, state)
    assert types(jax.eval_shape(optimizer.init, PARAMS)) == types(state)


@pytest.mark.parametrize("name", ["warm norms, every", "warm spectrum"])
def test_vmap_equals_each_alone(name):
    optimizer = penalty(**OPTIONS[name])
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf + 1]), {"stack": PARAMS["stack"]})
    zeros = jax.tree.map(jnp.zeros_like, many)
    states = jax.vmap(optimizer.init)(many)
    alone = [optimizer.init(part(many, i)) for i in range(2)]
    update, update_one = jax.jit(jax.vmap(optimizer.update)), jax.jit(optimizer.update)
    for _ in range(2):
        updates, states = update(zeros, states, many)
        for i in range(2):
            expected, alone[i] = update_one(part(zeros, i), alone[i], part(many, i))
            assert_close(part(updates, i), expected)


@pytest.mark.parametrize(
    "optimizer",
    [
        penalty(every=3),
        sr.watch_spectra(sr.alpha, every=3),
        sr.scale_by_layer_spectra(sr.linear_ratio(0.5, 1.5), sr.stable_rank, every=3),
    ],
    ids=["penalty", "watch", "layer factors"],
)
def test_in_a_batch_each_keeps_its_own_clock(optimizer):
    params = {"fc": {"kernel": PARAMS["fc"]["kernel"]}, "stack": PARAMS["stack"]}
    update = jax.jit(optimizer.update)
    states = [update(params, optimizer.init(params), params)[1]]
    for _ in range(2):
        states.append(update(params, states[-1], params)[1])
    later = jax.tree.map(lambda leaf: leaf**2, params)
    expected = [update(later, state, later) for state in states]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found = jax.jit(jax.vmap(optimizer.update, (None, 0, None)))(later, together, later)
    for i, alone in enumerate(expected):
        assert_close(part(found, i), alone)


@pytest.mark.parametrize("options", [{}, OPTIONS["warm norms, every"]], ids=["exact", "held"])
def test_tree_map_params_sees_the_gradients_and_nothing_else(options):
    optimizer = optax.chain(
        optax.clip(1.0),
        penalty(**options),
        optax.inject_hyperparams(sr.add_spectral_penalty)(sr.alpha, 0.1),
        optax.adam(1e-3),
    )
    state = optimizer.init(PARAMS)
    specs = jax.tree.map(lambda leaf: f"like {leaf.shape}", PARAMS)
    mapped = optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, spec: spec if isinstance(leaf, jax.Array) else leaf,
        state,
        specs,
        transform_non_params=lambda _: None,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    assert mapped[3][0].mu == specs
    held = {
        "fc": {"kernel": "like (6, 4)", "bias": optax.MaskedNode()},
        "stack": {"kernel": "like (3, 6, 4)"},
    }
    # A norm that is tracked is computed at every step.
    is_held = options.get("every", 1) > 1 and "tracking" not in options
    assert mapped[1].gradient == (held if is_held else optax.MaskedNode())
    assert mapped[2].inner_state.gradient == held
    assert jax.tree.leaves((mapped[1].penalty, mapped[1].values, mapped[1].vectors)) == []


def test_the_placeholder_is_optaxs_own():
    seen = []
    optax.tree_utils.tree_map_params(lambda params: seen.append(params), lambda leaf: leaf, None)
    assert is_placeholder(seen[0])
    assert not is_placeholder(PARAMS)


@pytest.mark.parametrize("options", [{}, {"mask": sr.by_path("*"), "conv": sr.conv_operator(2, 2)}])
def test_inject_hyperparams_takes_it_bare(options):
    options = {"metric": sr.hinge(sr.stable_rank, above=1.0), **options}
    optimizer = optax.inject_hyperparams(sr.add_spectral_penalty)(strength=2.0, **options)
    state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
    expected = jax.jit(jax.grad(lambda params: sr.spectral_penalty(params, **options)))(PARAMS)
    for strength in (2.0, 0.5, -1.0):
        state.hyperparams["strength"] = jnp.asarray(strength)
        updates, state = update(ZEROS, state, PARAMS)
        assert_close(updates, times(strength, expected))
    assert update._cache_size() == 1


def test_inject_hyperparams_with_a_schedule_and_a_number_of_steps():
    optimizer = optax.inject_hyperparams(sr.add_spectral_penalty)(
        sr.log_stable_rank, optax.linear_schedule(0.0, 1.0, 4), every=2
    )
    state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
    for strength in (0.0, 0.25, 0.5):
        updates, state = update(ZEROS, state, PARAMS)
        assert_close(updates, times(strength, GRADIENT))
    state.hyperparams["every"] = jnp.asarray(1000)
    moved = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
    updates, state = update(ZEROS, state, moved)
    assert_close(updates, times(0.75, GRADIENT))  # the held one


def test_apply_if_finite_skips_a_step_and_goes_on():
    optimizer = optax.apply_if_finite(penalty(1.0, tracking="warm"), 3)
    state, update = optimizer.init(PARAMS), jax.jit(optimizer.update)
    updates, state = update(ZEROS, state, PARAMS)
    assert_close(updates, GRADIENT)
    bad = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), ZEROS)
    updates, state = update(bad, state, PARAMS)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(updates))
    updates, state = update(ZEROS, state, PARAMS)
    assert_close(updates, GRADIENT)


def test_flatten_takes_what_comes_after():
    """Inside, no matrix is left; the error says so."""
    optimizer = optax.chain(penalty(1.0), optax.flatten(optax.sgd(1.0)))
    updates, _ = jax.jit(optimizer.update)(ZEROS, optimizer.init(PARAMS), PARAMS)
    assert_close(updates, times(-1, GRADIENT))
    with pytest.raises(ValueError, match="no leaf of two or more axes"):
        optax.flatten(penalty()).init(PARAMS)


def test_lookahead_and_schedule_free():
    fast = optax.chain(penalty(1.0), optax.sgd(0.1))
    lookahead = optax.lookahead(fast, sync_period=2, slow_step_size=0.5)
    pair = optax.LookaheadParams.init_synced(PARAMS)
    grads = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = lookahead.update(grads, lookahead.init(pair), pair)
    assert_close(updates.fast, times(-0.1, GRADIENT))
    schedule_free = optax.contrib.schedule_free(fast, learning_rate=0.1)
    state = schedule_free.init(PARAMS)
    updates, state = schedule_free.update(ZEROS, state, PARAMS)
    assert_close(
        state.base_optimizer_state[0].values["log_stable_rank"]["fc/kernel"],
        sr.log_stable_rank(PARAMS["fc"]["kernel"]),
    )


def test_partition_with_a_label_that_has_no_matrix():
    transforms = {"kernels": penalty(1.0), "others": penalty(1.0), "unused": penalty(1.0)}
    labels = {"fc": {"kernel": "kernels", "bias": "others"}, "stack": "kernels"}
    optimizer = optax.partition(transforms, labels)
    with pytest.warns(UserWarning, match=r"given no weight matrix, only \['fc/bias'\]"):
        state = optimizer.init(PARAMS)
    with pytest.warns(UserWarning, match="it does nothing here"):
        updates, _ = optimizer.update(ZEROS, state, PARAMS)
    assert_close(updates, GRADIENT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sr.watch_spectra(sr.stable_rank),
        sr.hold_norms,
        lambda: sr.hold_norms("spectral"),
        lambda: sr.cap_spectral_norm(0.5),
    ],
    ids=["watch", "norms", "spectral norms", "cap"],
)
def test_a_label_without_a_matrix_is_left_alone_by_the_others_too(make):
    transforms = {name: make() for name in ("kernels", "others", "unused")}
    labels = {"fc": {"kernel": "kernels", "bias": "others"}, "stack": "kernels"}
    optimizer = optax.partition(transforms, labels)
    with pytest.warns(UserWarning, match=r"given no weight matrix, only \['fc/bias'\]"):
        state = optimizer.init(PARAMS)
    with pytest.warns(UserWarning, match="it does nothing here"):
        updates, _ = optimizer.update(ZEROS, state, PARAMS)
    alone = make()
    expected, _ = alone.update(ZEROS, alone.init(PARAMS), PARAMS)
    assert_close(updates, expected)


def test_each_penalty_of_a_chain_is_read_by_name():
    optimizer = optax.named_chain(
        ("tail", penalty(0.1, sr.alpha)),
        ("rank", penalty(0.1)),
        ("bound", penalty(0.1, sr.hinge(sr.spectral_norm, above=1.0))),
        ("adamw", optax.adamw(1e-3)),
    )
    _, state = jax.jit(optimizer.update)(ZEROS, optimizer.init(PARAMS), PARAMS)
    assert state["rank"].penalty == pytest.approx(
        float(sr.spectral_penalty(PARAMS, sr.log_stable_rank)), rel=1e-5
    )
    for name, metric in (("alpha", sr.alpha), ("hinge_spectral_norm", None)):
        values = optax.tree_utils.tree_get(state, name)
        assert {path: value.shape for path, value in values.items()} == {
            "fc/kernel": (),
            "stack/kernel": (3,),
        }
        if metric:
            np.testing.assert_allclose(
                values["stack/kernel"], jax.jit(metric)(PARAMS["stack"]["kernel"]), rtol=1e-6
            )
    found = optax.tree_utils.tree_get_all_with_path(state, "penalty")
    assert len(found) == 3


def test_a_strength_for_each_path():
    optimizer = penalty({"fc/*": 2.0, "*": optax.linear_schedule(1.0, 0.0, 2)})
    state = optimizer.init(PARAMS)
    for second in (1.0, 0.5):
        updates, state = optimizer.update(ZEROS, state, PARAMS)
        np.testing.assert_allclose(
            updates["fc"]["kernel"], 2 * GRADIENT["fc"]["kernel"], rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            updates["stack"]["kernel"], second * GRADIENT["stack"]["kernel"], rtol=1e-4, atol=1e-6
        )
    with pytest.raises(ValueError, match=r"'head/\*' of strength matches no path"):
        penalty({"head/*": 1.0, "*": 1.0}).init(PARAMS)
    with pytest.raises(ValueError, match="strength has no pattern that fits 'stack/kernel'"):
        penalty({"fc/*": 1.0}).init(PARAMS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strength": "0.1"}, TypeError, "strength is '0.1'; expected a finite number"),
        ({"strength": None}, TypeError, "strength is None"),
        ({"strength": True}, TypeError, "strength is True"),
        ({"strength": np.array(np.nan)}, ValueError, "strength is nan"),
        ({"strength": jnp.asarray(jnp.inf)}, ValueError, "strength is inf"),
        ({"strength": np.ones(3)}, ValueError, r"strength has shape \(3,\)"),
        ({"strength": {}}, ValueError, "expected at least one pattern"),
        ({"strength": {"*": "0.1"}}, TypeError, r"strength\['\*'\] is '0.1'"),
        ({"strength": {0: 0.1}}, TypeError, "strength has the key 0"),
        ({"metric": "alpha"}, TypeError, "metric is 'alpha'; expected a function of matrices"),
        ({"conv": "slice"}, ValueError, "conv is 'slice'; expected one of slices"),
        ({"conv": None}, ValueError, "conv is None"),
        ({"every": 2.0}, ValueError, "every is 2.0"),
        ({"every": jnp.ones(2)}, ValueError, r"every has shape \(2,\)"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        penalty(**arguments)


def test_numbers_of_numpy_are_numbers():
    optimizer = penalty(np.float32(2.0), every=np.int64(2))
    updates, _ = optimizer.update(ZEROS, optimizer.init(PARAMS), PARAMS)
    assert_close(updates, times(2, GRADIENT))


def test_an_estimator_is_no_metric():
    with pytest.raises(ValueError, match="estimator of alpha, becomes a metric by spectral_metric"):
        penalty(metric=sr.smooth_hill()).init(PARAMS)


def test_updates_of_another_tree_are_refused():
    optimizer = penalty()
    with pytest.raises(ValueError, match=r"the updates have no leaf 'fc/kernel'.*\{'params'"):
        optimizer.update({"params": ZEROS}, optimizer.init(PARAMS), PARAMS)


def test_two_leaves_of_one_path_are_refused():
    params = {"a": {"b/kernel": jnp.ones((3, 3))}, "a/b": {"kernel": jnp.ones((3, 3))}}
    with pytest.raises(ValueError, match="two leaves have the path 'a/b/kernel'"):
        penalty().init(params)


CHANGES = {
    "metric": ({}, {"metric": sr.alpha}, r"values of \['log_stable_rank'\]; expected 'alpha'"),
    "every": ({}, {"every": 2}, "state's gradient is {}; expected {'fc/kernel': "),
    "tracking": ({}, {"tracking": "warm"}, "state's vectors is {}; expected"),
    "mask": ({"every": 2}, {"every": 2, "mask": sr.by_path("fc/*")}, "the state's gradient is"),
    "axes": (
        {"tracking": "warm"},
        {"tracking": "warm", "axes": {"stack/kernel": sr.MatrixAxes(rows=(0, 1), cols=2)}},
        "the state's vectors is",
    ),
}


@pytest.mark.parametrize(("before", "after", "message"), CHANGES.values(), ids=CHANGES)
def test_a_state_of_other_arguments_is_refused(before, after, message):
    state = penalty(**before).init(PARAMS)
    with pytest.raises(ValueError, match=message):
        penalty(**after).update(ZEROS, state, PARAMS)


def test_bound_options_of_a_metric():
    """As for the metric alone: pooled, warm, and inside target."""
    tail = functools.partial(sr.alpha, estimator=sr.hill(0.8))
    params = {"fc": PARAMS["fc"]}
    expected = jax.jit(tail)(PARAMS["fc"]["kernel"])
    for options in ({}, {"tracking": "warm"}, {"conv": "pooled"}):
        optimizer = penalty(metric=tail, **options)
        zeros = jax.tree.map(jnp.zeros_like, params)
        _, state = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
        assert state.penalty == pytest.approx(float(expected), rel=1e-4)
    steered = jax.jit(sr.target(tail, 2.0))(PARAMS["fc"]["kernel"])
    assert steered == pytest.approx(float((expected - 2) ** 2), rel=1e-5)
