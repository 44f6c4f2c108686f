"""Loss terms: what they sum, and how target and hinge shape them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import RNG

import spectral_reg as sr

KERNEL = RNG.standard_normal((2, 3, 8, 5)).astype(np.float32)
PARAMS = {"conv": {"kernel": KERNEL}, "fc": {"kernel": KERNEL[0, 0], "bias": np.ones(5)}}


def test_sum_and_mean_count_every_matrix():
    slices = [float(sr.stable_rank(W)) for W in KERNEL.reshape(6, 8, 5)]
    values = [*slices, slices[0]]
    assert sr.spectral_penalty(PARAMS, sr.stable_rank) == pytest.approx(sum(values))
    mean = sr.spectral_penalty(PARAMS, sr.stable_rank, reduce="mean")
    assert mean == pytest.approx(np.mean(values))


def test_pooled_is_the_metric_of_the_pooled_spectrum():
    pooled = sr.layer_spectra(PARAMS, conv="pooled")["conv/kernel"]
    expected = sr.log_stable_rank.of_eigenvalues(pooled) + sr.log_stable_rank(KERNEL[0, 0])
    value = sr.spectral_penalty(PARAMS, sr.log_stable_rank, conv="pooled")
    assert value == pytest.approx(float(expected))


def test_a_plain_function_of_the_matrix_is_a_metric():
    def mean_square(W):
        return jnp.mean(W**2, axis=(-2, -1))

    assert sr.spectral_penalty(PARAMS, mean_square) > 0
    with pytest.raises(ValueError, match="mean_square is a plain function"):
        sr.spectral_penalty(PARAMS, mean_square, conv="pooled")


def test_a_metric_keeps_its_options_and_name():
    assert sr.alpha.__name__ == "alpha"
    assert sr.alpha(KERNEL, estimator=sr.hill(0.5)).shape == (2, 3)
    hill = sr.spectral_metric(sr.hill(0.5))
    np.testing.assert_allclose(hill(KERNEL), sr.alpha(KERNEL, estimator=sr.hill(0.5)), rtol=1e-6)


def test_target_is_a_squared_distance_outside_its_band():
    W, rank = KERNEL[0, 0], float(sr.stable_rank(KERNEL[0, 0]))
    metric = sr.target(sr.stable_rank, rank - 1, band=0.25)
    assert metric(W) == pytest.approx(0.75**2, rel=1e-5)
    assert metric.of_eigenvalues(sr.eigenvalues(W)) == pytest.approx(0.75**2, rel=1e-5)
    inside = sr.target(sr.stable_rank, rank + 0.1, band=0.25)
    assert inside(W) == 0
    assert jnp.all(jax.grad(inside)(W) == 0)


def test_hinge_acts_past_its_bounds_alone():
    W, rank = KERNEL[0, 0], float(sr.stable_rank(KERNEL[0, 0]))
    direction = jax.grad(sr.stable_rank)(W)
    for bounds, value, sign in (
        ({"below": rank + 2}, 2, -1),
        ({"above": rank - 1}, 1, 1),
        ({"below": rank - 1, "above": rank + 1}, 0, 0),
    ):
        metric = sr.hinge(sr.stable_rank, **bounds)
        assert metric(W) == pytest.approx(value, rel=1e-4)
        np.testing.assert_allclose(jax.grad(metric)(W), sign * direction, rtol=1e-4)


def test_shaping_a_plain_function_gives_a_plain_function():
    metric = sr.target(lambda W: jnp.sum(W, axis=(-2, -1)), 1.0)
    assert metric(jnp.ones((2, 2))) == pytest.approx(9)
    assert not hasattr(metric, "of_eigenvalues")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sr.spectral_penalty(PARAMS, sr.alpha, reduce="max"), "reduce is 'max'; expected"),
        (lambda: sr.spectral_penalty(PARAMS, jnp.sum), r"gave shape \(\) for 'conv/kernel'"),
        (lambda: sr.target(sr.alpha, np.nan), "value is nan; expected a finite"),
        (lambda: sr.target(sr.alpha, 2.0, band=-1.0), "band is -1.0"),
        (lambda: sr.hinge(sr.alpha), "below and above are None"),
        (lambda: sr.hinge(sr.alpha, above=np.inf), "above is inf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
