"""Learning rates and decays layer by layer, against the published formulas in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectral_reg as sr

LOW, HIGH = 0.5, 1.5


def three_layers(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    spread = {"fc1": 0.0, "fc2": 0.5, "fc3": 1.5}
    return {
        name: {
            "kernel": (
                jax.random.normal(key, (96, 64)) * jnp.exp(power * jnp.linspace(0, 1, 64))[None]
            ).astype(dtype),
            "bias": jnp.ones(64, dtype),
        }
        for key, (name, power) in zip(keys, spread.items(), strict=True)
    }


def ones_like(params):
    return jax.tree.map(jnp.ones_like, params)


def published_alpha(W):
    """Of Hill, with the median as xmin, as TempBalance's code has it."""
    ascending = np.sort(np.linalg.svd(np.asarray(W, np.float64), compute_uv=False) ** 2)
    start = len(ascending) // 2
    tail = np.log(ascending[start:])
    return 1 + len(tail) / (tail.sum() - len(tail) * tail[0])


def published_factors(params, low, high):
    alphas = np.array([published_alpha(layer["kernel"]) for layer in params.values()])
    return np.interp(alphas, [alphas.min(), alphas.max()], [low, high])


def updated(transformation, params, updates=None, steps=1):
    state = transformation.init(params)
    for _ in range(steps):
        result, state = transformation.update(
            ones_like(params) if updates is None else updates, state, params
        )
    return result, state


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.5, 1.5), (1.0, 5.0), (2 / 3, 5.0)],
    ids=["TempBalance", "LLR", "AlphaDecay"],
)
def test_factors_are_those_of_the_published_formula(low, high):
    params = three_layers()
    expected = published_factors(params, low, high)
    ratio = sr.linear_ratio(low, high, keep_mean=False)
    updates, state = updated(sr.scale_by_layer_spectra(ratio), params)
    found = [float(updates[name]["kernel"][0, 0]) for name in params]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        [float(state.factors[f"{name}/kernel"]) for name in params], expected, rtol=1e-5
    )
    decay, _ = updated(
        sr.add_decayed_weights_by_spectra(0.1, ratio), params, jax.tree.map(jnp.zeros_like, params)
    )
    for name, factor in zip(params, expected, strict=True):
        W = params[name]["kernel"]
        np.testing.assert_allclose(decay[name]["kernel"], 0.1 * factor * W, rtol=1e-5)
        assert not decay[name]["bias"].any()
    assert all((updates[name]["bias"] == 1).all() for name in params)


def test_the_mean_is_kept_unless_asked_otherwise():
    _, state = updated(sr.scale_by_layer_spectra(sr.linear_ratio(LOW, 5.0)), three_layers())
    assert np.mean([*state.factors.values()]) == pytest.approx(1, abs=1e-6)


def test_controls_deal_the_same_factors_to_the_wrong_layers_or_their_mean_to_all():
    params = three_layers()
    ratio = sr.linear_ratio(1.0, 5.0, keep_mean=False)
    _, right = updated(sr.scale_by_layer_spectra(ratio), params)
    for seed in range(5):
        wrong = sr.scale_by_layer_spectra(ratio, permute_layers=jax.random.key(seed))
        _, dealt = updated(wrong, params)
        assert sorted(map(float, dealt.factors.values())) == pytest.approx(
            sorted(map(float, right.factors.values()))
        )
        assert all(dealt.factors[name] != right.factors[name] for name in right.factors)
    for groups in (None, lambda path: "first" if path == "fc1/kernel" else "others"):
        _, own = updated(sr.scale_by_layer_spectra(ratio, groups=groups), params)
        uniform = sr.scale_by_layer_spectra(ratio, uniform=True, groups=groups)
        _, state = updated(uniform, params)
        mean = np.mean([*own.factors.values()])
        assert [*map(float, state.factors.values())] == pytest.approx([mean] * 3)


def test_a_group_shares_the_factor_of_its_mean():
    params = three_layers()
    ratio = sr.linear_ratio(LOW, HIGH, keep_mean=False)
    grouped = sr.scale_by_layer_spectra(
        ratio, groups=lambda path: "first" if path in ("fc1/kernel", "fc3/kernel") else path
    )
    _, state = updated(grouped, params)
    assert state.factors["fc1/kernel"] == state.factors["fc3/kernel"]
    alphas = {name: published_alpha(layer["kernel"]) for name, layer in params.items()}
    first_is_lower = (alphas["fc1"] + alphas["fc3"]) / 2 < alphas["fc2"]
    assert float(state.factors["fc1/kernel"]) == pytest.approx(LOW if first_is_lower else HIGH)


def test_a_stack_has_a_factor_for_each_of_its_layers_wherever_they_are_stacked():
    params = three_layers()
    ratio = sr.linear_ratio(LOW, HIGH, keep_mean=False)
    expected = published_factors(params, LOW, HIGH)
    kernels = [layer["kernel"] for layer in params.values()]
    for axis, axes in ((0, None), (1, {"*": sr.Stacked(1)})):
        stack = {"blocks": {"kernel": jnp.stack(kernels, axis)}}
        updates, state = updated(sr.scale_by_layer_spectra(ratio, axes=axes), stack)
        found = jnp.moveaxis(updates["blocks"]["kernel"], axis, 0)
        np.testing.assert_allclose(found[:, 3, 5], expected, rtol=2e-6)
        assert (found == found[:, :1, :1]).all()
        assert state.factors["blocks/kernel"].shape == (3,)


def test_factors_move_linearly_to_new_ones():
    params = three_layers()
    scale = sr.scale_by_layer_spectra(
        sr.linear_ratio(1.0, 5.0, keep_mean=False), every=8, transition=4
    )
    state, seen = scale.init(params), []
    for _ in range(6):
        updates, state = scale.update(ones_like(params), state, params)
        seen.append(float(updates["fc3"]["kernel"][0, 0]))
    last = float(state.factors["fc3/kernel"])
    assert seen == pytest.approx([1 + (last - 1) * min(s, 1) for s in (0.25, 0.5, 0.75, 1, 1, 1)])


def test_every_holds_the_factors():
    params = three_layers()
    scale = sr.scale_by_layer_spectra(sr.linear_ratio(LOW, HIGH), every=3)
    state = scale.init(params)
    _, state = scale.update(ones_like(params), state, params)
    turned = dict(zip(params, reversed(params.values()), strict=True))
    for is_new in (False, False, True):
        before = state.factors
        _, state = scale.update(ones_like(params), state, turned)
        assert (state.factors["fc1/kernel"] != before["fc1/kernel"]) == is_new


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_layer_without_a_finite_metric_has_the_factor_1_and_is_counted(bad):
    params = three_layers()
    whole = {name: params[name] for name in ("fc1", "fc3")}
    params["fc2"]["kernel"] = params["fc2"]["kernel"].at[0, 0].set(bad)
    ratio = sr.linear_ratio(LOW, HIGH, keep_mean=False)
    updates, state = updated(sr.scale_by_layer_spectra(ratio), params)
    assert state.num_not_finite == 1
    assert (updates["fc2"]["kernel"] == 1).all()
    _, of_two = updated(sr.scale_by_layer_spectra(ratio), whole)
    for name in of_two.factors:
        assert state.factors[name] == of_two.factors[name]


def test_a_layer_of_zeros_has_the_factor_1_and_moves_no_other():
    ratio = sr.linear_ratio(LOW, HIGH, keep_mean=False)
    _, alone = updated(sr.scale_by_layer_spectra(ratio), three_layers())
    with_zeros = three_layers() | {"out": {"kernel": jnp.zeros((8, 6))}}
    _, state = updated(sr.scale_by_layer_spectra(ratio), with_zeros)
    assert state.factors == alone.factors | {"out/kernel": 1.0}
    assert state.num_not_finite == 1


@pytest.mark.parametrize("bad", [jnp.nan, -1.0])
def test_the_mean_for_all_is_that_of_the_factors_where_a_ratio_fails_on_one(bad):
    params = three_layers()

    def ratio(values):
        return jnp.array([bad, 2.0, 4.0])

    _, state = updated(sr.scale_by_layer_spectra(ratio), params)
    assert [*map(float, state.factors.values())] == [1, 2, 4]
    assert state.num_not_finite == 1
    _, state = updated(sr.scale_by_layer_spectra(ratio, uniform=True), params)
    assert [*map(float, state.factors.values())] == pytest.approx([7 / 3] * 3)
    assert state.num_not_finite == 1


def test_the_first_state_may_be_donated():
    params, ratio = three_layers(), sr.linear_ratio(LOW, HIGH)
    for transformation in (
        sr.scale_by_layer_spectra(ratio),
        sr.add_decayed_weights_by_spectra(0.1, ratio),
    ):
        state = transformation.init(params)
        places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
        assert len({*places}) == len(places)


def test_hyperparameters_may_be_injected():
    params, ratio = three_layers(), sr.linear_ratio(1.0, 5.0, keep_mean=False)
    plain = sr.scale_by_layer_spectra(ratio, every=4, transition=2)
    injected = optax.inject_hyperparams(sr.scale_by_layer_spectra)(
        ratio, every=4, transition=2, mask=sr.by_path("fc*")
    )
    (expected, _), (found, _) = (updated(chain, params, steps=2) for chain in (plain, injected))
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(left, right)
    decay = optax.inject_hyperparams(sr.add_decayed_weights_by_spectra)(0.1, ratio)
    state = decay.init(params)
    state.hyperparams["weight_decay"] = jnp.float32(0.2)
    (twice, _), (once, _) = (
        jax.jit(decay.update)(jax.tree.map(jnp.zeros_like, params), start, params)
        for start in (state, decay.init(params))
    )
    np.testing.assert_allclose(twice["fc1"]["kernel"], 2 * once["fc1"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda scale, decay: optax.chain(optax.adamw(1e-2), scale),
        lambda scale, decay: optax.chain(
            optax.scale_by_adam(), decay, optax.scale_by_learning_rate(1e-2)
        ),
        lambda scale, decay: optax.chain(optax.contrib.muon(1e-2), scale),
        lambda scale, decay: optax.MultiSteps(optax.chain(optax.adam(1e-2), scale), 2),
        lambda scale, decay: optax.chain(
            optax.adam(optax.cosine_decay_schedule(1e-2, 10)),
            optax.masked(scale, sr.by_path("fc*")),
        ),
    ],
    ids=["adamw", "decoupled", "muon", "MultiSteps", "masked"],
)
@pytest.mark.usefixtures("promoted_types")
def test_composes_and_resumes_bit_for_bit(optimizer):
    ratio = sr.linear_ratio(LOW, HIGH)
    optimizer = optimizer(
        sr.scale_by_layer_spectra(ratio, every=2), sr.add_decayed_weights_by_spectra(0.1, ratio)
    )
    step = jax.jit(optimizer.update)

    def train(params, state, steps):
        for _ in range(steps):
            updates, state = step(ones_like(params), state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    params = three_layers()
    whole, _ = train(params, optimizer.init(params), 6)
    half, state = train(params, optimizer.init(params), 3)
    saved = jax.tree.map(np.asarray, state)  # a plain tree of arrays
    again, _ = train(half, jax.tree.map(jnp.asarray, saved), 3)
    assert step._cache_size() == 1
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        assert (left == right).all()
    mapped = optax.tree_utils.tree_map_params(optimizer, lambda leaf: leaf, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)


@pytest.mark.usefixtures("promoted_types")
def test_an_nnx_optimizer_takes_it():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.fc1 = nnx.Linear(32, 24, rngs=rngs)
            self.fc2 = nnx.Linear(24, 16, rngs=rngs)

    model = Model(nnx.Rngs(0))
    chain = optax.chain(optax.adam(1e-2), sr.scale_by_layer_spectra(sr.linear_ratio(LOW, HIGH)))
    optimizer = nnx.Optimizer(model, chain, wrt=nnx.Param)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    optimizer.update(model, jax.tree.map(jnp.ones_like, before))
    moved = [
        jnp.abs(layer.kernel[...] - old.kernel[...]).mean()
        for layer, old in ((model.fc1, before.fc1), (model.fc2, before.fc2))
    ]
    assert float(moved[0] + moved[1]) == pytest.approx(2e-2, rel=1e-3)
    assert abs(float(moved[0] - moved[1])) == pytest.approx(1e-2, rel=1e-3)


def test_updates_keep_their_dtype():
    params = three_layers(jnp.bfloat16)
    ratio = sr.linear_ratio(LOW, HIGH)
    for transformation in (
        sr.scale_by_layer_spectra(ratio),
        sr.add_decayed_weights_by_spectra(0.1, ratio),
    ):
        updates, _ = updated(transformation, params)
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sr.linear_ratio(0.0, 1.0), "low is 0.0; expected a finite number above 0"),
        (lambda: sr.linear_ratio(1.0, float("inf")), "high is inf; expected a finite number"),
        (lambda: sr.scale_by_layer_spectra(sr.linear_ratio(1, 2), every=0), "every is 0; expected"),
        (
            lambda: sr.scale_by_layer_spectra(sr.linear_ratio(1, 2), every=5, transition=6),
            "transition is 6; expected a whole number from 0 to every, 5",
        ),
        (
            lambda: sr.add_decayed_weights_by_spectra(float("nan"), sr.linear_ratio(1, 2)),
            "weight_decay is nan; expected a finite number",
        ),
        (
            lambda: sr.scale_by_layer_spectra(
                sr.linear_ratio(1, 2), mask=sr.by_path("fc1/kernel")
            ).init(three_layers()),
            r"leave 1 of 1 layers \(fc1/kernel\); expected at least 2",
        ),
        (
            lambda: sr.scale_by_layer_spectra(lambda values: values[:1]).init(three_layers()),
            r"ratio gives shape \(1,\); expected \(3,\)",
        ),
        (
            lambda: sr.scale_by_layer_spectra(sr.linear_ratio(1, 2)).update(
                three_layers(),
                sr.scale_by_layer_spectra(sr.linear_ratio(1, 2)).init(three_layers()),
            ),
            "params is None; expected",
        ),
        (
            lambda: sr.scale_by_layer_spectra(sr.linear_ratio(1, 2)).update(
                three_layers(),
                sr.scale_by_layer_spectra(sr.linear_ratio(1, 2)).init(
                    {name: {"kernel": jnp.eye(4)} for name in ("fc1", "fc2")}
                ),
                three_layers(),
            ),
            "the state's factors is",
        ),
        (
            lambda: sr.scale_by_layer_spectra(sr.linear_ratio(1, 2)).update(
                three_layers(),
                sr.scale_by_layer_spectra(sr.linear_ratio(1, 2), sr.stable_rank).init(
                    three_layers()
                ),
                three_layers(),
            ),
            "expected 'hill_alpha': it was made for another metric",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"permute_layers": True}, r"permute_layers is True; expected a random key"),
        ({"permute_layers": 3}, r"permute_layers is 3; expected a random key"),
        ({"permute_layers": jnp.arange(3)}, r"permute_layers is Array.*; expected a random key"),
        ({"groups": "block"}, r"groups is 'block'; expected a function from the path of a matrix"),
        ({"groups": lambda path: [path]}, r"groups gives \['fc1/kernel'\]; expected the name of"),
    ],
)
@pytest.mark.parametrize("decays", [False, True])
def test_odd_controls_are_refused(options, message, decays):
    make = sr.scale_by_layer_spectra
    if decays:
        make = functools.partial(sr.add_decayed_weights_by_spectra, 0.1)
    with pytest.raises(TypeError, match=message):
        make(sr.linear_ratio(1, 2), **options).init(three_layers())


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)])
def test_keys_of_both_kinds_permute(key):
    scale = sr.scale_by_layer_spectra(sr.linear_ratio(1, 2), permute_layers=key)
    scale.update(three_layers(), scale.init(three_layers()), three_layers())
