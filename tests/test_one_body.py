"""Layers of one shape share one traced body."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spectral_reg as sr


def lambda_ratio(W):
    return jnp.linalg.norm(W, axis=(-2, -1)) / sr.spectral_norm(W)


def blocks(num_blocks):
    rng = np.random.default_rng(0)
    return {
        str(number): {
            "up": {"kernel": jnp.asarray(rng.standard_normal((24, 16)), jnp.float32)},
            "down": {"kernel": jnp.asarray(rng.standard_normal((16, 24)), jnp.float32)},
        }
        for number in range(num_blocks)
    }


TENTH = sr.spectral_metric(sr.smooth_hill(low=0.05, high=0.1))
CASES = [
    (sr.alpha, {}),
    (sr.alpha, {"tracking": "warm"}),
    (TENTH, {"tracking": "tail"}),
    (sr.log_stable_rank, {"tracking": "warm", "every": 2}),
]


METRICS = [sr.alpha, sr.stable_rank, lambda_ratio]
TRANSFORMATIONS = [
    *(sr.add_spectral_penalty(metric, 1.0, **options) for metric, options in CASES),
    sr.watch_spectra(METRICS),
    sr.watch_spectra(METRICS[:2], tracking="warm", every=2),
    sr.watch_spectra({"top": TENTH, "norm": sr.spectral_norm}, tracking="tail"),
    sr.scale_by_layer_spectra(sr.linear_ratio(0.5, 1.5)),
    sr.add_decayed_weights_by_spectra(0.1, sr.linear_ratio(0.5, 1.5)),
]


def traced(transformation, num_blocks):
    params = blocks(num_blocks)
    state = transformation.init(params)
    return str(jax.make_jaxpr(transformation.update)(params, state, params))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_more_layers_make_no_more_decompositions(transformation):
    few, many = (traced(transformation, number) for number in (2, 6))
    assert "= eigh[" in few
    for operation in ("eigh", "qr", "while", "scan", "cholesky"):
        assert few.count(f"= {operation}[") == many.count(f"= {operation}["), operation


@pytest.mark.parametrize(("metric", "options"), CASES)
def test_each_layer_has_what_it_has_alone(metric, options):
    params = blocks(3)
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    update = jax.jit(transformation.update)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, state = update(zeros, transformation.init(params), params)
    (values,) = state.values.values()
    for name, leaf in sr.layer_matrices(params).items():
        number, kind, _ = name.split("/")
        alone = {"fc": {"kernel": leaf}}
        start = transformation.init(alone)
        expected, own = update(jax.tree.map(jnp.zeros_like, alone), start, alone)
        np.testing.assert_allclose(values[name], own.penalty, rtol=1e-4)
        np.testing.assert_allclose(
            updates[number][kind]["kernel"], expected["fc"]["kernel"], rtol=1e-2, atol=1e-3
        )


def test_a_watch_has_of_each_layer_what_the_metric_gives():
    params = blocks(3)
    watch = sr.watch_spectra(METRICS)
    _, state = jax.jit(watch.update)(params, watch.init(params), params)
    for name, W in sr.layer_matrices(params).items():
        for metric in METRICS:
            np.testing.assert_allclose(
                state.values[metric.__name__][name], metric(W), rtol=1e-4, err_msg=name
            )
