"""Phases of a run while it trains, measured beside it."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import fitting
from fitting._series import _watch_phases


def params_at(step):
    noise = jax.random.normal(jax.random.key(0), (60, 40))
    spike = jnp.outer(noise[:, 0], noise[0])
    return {"fc": {"kernel": noise + step / 1000 * spike, "bias": jnp.zeros(40)}}


def test_a_series_is_that_of_the_checkpoints():
    steps = (0, 100, 200)
    with fitting.watch_phases() as phases:
        for step in steps:
            assert phases(step, params_at(step), wait=True)
        series = phases.series()
    saved = fitting.follow({s: params_at(s) for s in steps}, num_bootstrap=0, progress=False)
    pd.testing.assert_frame_equal(series.layers, saved.layers)
    pd.testing.assert_frame_equal(series.tails, saved.tails)


def test_training_never_waits_and_may_donate(monkeypatch):
    """While a step is measured, others are counted as missed; what was taken stays as it was."""
    measure, gate = _watch_phases.measure_step, threading.Event()

    def measured_when_open(*arguments, **options):
        gate.wait(60)
        return measure(*arguments, **options)

    monkeypatch.setattr(_watch_phases, "measure_step", measured_when_open)
    move = jax.jit(lambda params: jax.tree.map(lambda leaf: 2 * leaf, params), donate_argnums=0)
    params, taken = params_at(0), []
    norm = float(jnp.linalg.norm(params["fc"]["kernel"]))
    with fitting.watch_phases() as phases:
        for step in range(3):
            taken.append(phases(step, params))
            params = move(params)
        gate.set()
        taken.append(phases(3, params, wait=True))
        series = phases.series()
    assert taken == [True, False, False, True]
    assert phases.missed == [1, 2]
    np.testing.assert_allclose(
        np.sqrt(series.layers["spectral_norm"].iloc[0] ** 2 * series.layers["stable_rank"].iloc[0]),
        norm,
        rtol=1e-5,
    )
    assert series.layers["spectral_norm"].iloc[1] == pytest.approx(
        8 * series.layers["spectral_norm"].iloc[0], rel=1e-5
    )


def test_bad_input():
    with pytest.raises(ValueError, match="num_bootstrap is -1; expected 0 or more"):
        fitting.watch_phases(num_bootstrap=-1)
    with pytest.raises(ValueError, match="num_threads is 0; expected 1 or more"):
        fitting.watch_phases(num_threads=0)
    with fitting.watch_phases() as phases:
        with pytest.raises(ValueError, match=r"the steps watched are \[\]; expected at least two"):
            phases.series()
        phases(5, params_at(0))
        with pytest.raises(ValueError, match="step is 5 after 5; expected a larger number"):
            phases(5, params_at(0))
    with fitting.watch_phases(layers=["nothing"]) as phases:
        phases(0, params_at(0))
        with pytest.raises(ValueError, match="nothing"):
            phases(1, params_at(1), wait=True)
