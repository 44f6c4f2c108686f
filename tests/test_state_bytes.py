"""What a transformation keeps between steps."""

import jax
import jax.numpy as jnp
import optax
import pytest

import spectral_reg as sr

TENTH = sr.spectral_metric(sr.smooth_hill(low=0.05, high=0.1))


@pytest.mark.parametrize(
    ("metric", "options", "numbers"),
    [
        (sr.alpha, {}, 0),
        (sr.alpha, {"tracking": "warm"}, 40 * 40),
        (sr.alpha, {"every": 5}, 60 * 40),
        (sr.log_stable_rank, {"tracking": "warm"}, 40 * 16 + 2),
        (sr.log_stable_rank, {"tracking": "warm", "every": 5}, 40 * 16 + 2),
        (TENTH, {"tracking": "tail"}, 40 * 12 + 3),
    ],
)
def test_bytes_of_the_state(metric, options, numbers):
    params = {"fc": {"kernel": jnp.ones((60, 40)), "bias": jnp.ones(40)}}
    penalty = sr.add_spectral_penalty(metric, 1.0, **options)
    # Besides, the count, the penalty, and the value of the one matrix.
    assert sum(sr.state_bytes(penalty, params).values()) == 4 * (numbers + 3)
    arrays = jax.tree.leaves(penalty.init(params))
    assert sum(array.nbytes for array in arrays) == 4 * (numbers + 3)


@pytest.mark.parametrize(
    ("metric", "options", "numbers", "others"),
    [
        (sr.alpha, {"tracking": "warm"}, 40 * 40, 0),
        (sr.alpha, {"every": 5}, 60 * 40, 0),
        (sr.log_stable_rank, {"tracking": "warm"}, 40 * 16, 2),
        (TENTH, {"tracking": "tail"}, 40 * 12, 3),
    ],
)
def test_in_bfloat16_it_is_half(metric, options, numbers, others):
    params = {"fc": {"kernel": jnp.ones((60, 40))}}
    penalty = sr.add_spectral_penalty(metric, 1.0, state_dtype="bfloat16", **options)
    assert sum(sr.state_bytes(penalty, params).values()) == 2 * numbers + 4 * (others + 3)
    state = penalty.init(params)
    _, after = jax.jit(penalty.update)(params, state, params)
    types = [jax.tree.map(jax.typeof, tree) for tree in (state, after)]
    assert types[0] == types[1]


def test_a_type_that_is_not_of_numbers_is_refused():
    with pytest.raises(TypeError, match="state_dtype is 'int8'; expected a floating-point type"):
        sr.add_spectral_penalty(sr.alpha, 1.0, state_dtype="int8")


def test_of_a_chain_and_of_shapes_alone():
    params = jax.eval_shape(lambda: {"fc": {"kernel": jnp.ones((8192, 8192), jnp.bfloat16)}})
    penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, tracking="warm")
    found = sr.state_bytes(optax.chain(penalty, optax.adam(1e-3)), params)
    assert found["0/vectors/fc/kernel/vectors"] == 4 * 16 * 8192
    assert sum(found.values()) > 2 * 2 * 8192**2
