"""Decompositions of stacks: one at a time on the CPU, however the stack comes about."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import RNG

import spectral_reg as sr
from spectral_reg import _stacks
from spectral_reg._stacks import eigh

TESTS = Path(__file__).parent
STACK = RNG.standard_normal((3, 2, 10, 6)).astype(np.float32)
WARM = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, tracking="warm")
SLICES = sr.add_spectral_penalty(sr.alpha, 1.0, tracking="warm")
SAMPLED = sr.sampled(sr.alpha, key=jax.random.key(0), num_blocks=3, size=4)


def scanned(W):
    return jax.lax.scan(lambda W, _: (W - 0.1 * jax.grad(sum_of(sr.alpha))(W), None), W, length=2)


def sum_of(metric):
    return lambda W: metric(W).sum()


def updated(transformation):
    def update(W):
        params = {"kernel": W}
        return transformation.update(params, transformation.init(params), params)

    return update


PROGRAMS = {
    "value": sr.eigenvalues,
    "gradient": jax.grad(sum_of(sr.log_stable_rank)),
    "vmap": jax.vmap(sr.eigenvalues),
    "vmap twice": jax.vmap(jax.vmap(jax.grad(sr.alpha))),
    "scan of steps": scanned,
    "vmap of a scan of steps": jax.vmap(scanned),
    "second derivative": lambda W: jax.jvp(jax.grad(sum_of(sr.alpha)), (W,), (W,)),
    "warm norms": updated(WARM),
    "warm spectra": updated(SLICES),
    "vmap of warm norms": jax.vmap(updated(WARM)),
    "vmap of warm spectra": jax.vmap(updated(SLICES)),
    "sampled": jax.grad(sum_of(SAMPLED)),
    "conv_operator": lambda W: sr.conv_operator(4, 4)(W),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_decomposition_is_batched_on_the_cpu(name):
    text = jax.jit(PROGRAMS[name]).lower(STACK).as_text()
    calls = re.findall(r"stablehlo.custom_call @lapack_.* -> \((.*)\)", text)
    calls += re.findall(r"stablehlo.custom_call @lapack_.* -> (tensor.*)", text)
    assert calls
    for results in calls:
        shapes = re.findall(r"tensor<((?:\d+x)*)[fc]", results)
        matrices = [[int(n) for n in shape.split("x")[:-1]] for shape in shapes]
        assert all(np.prod(shape[:-2]) == 1 for shape in matrices), results


def test_a_batch_stays_one_on_an_accelerator():
    exported = jax.export.export(jax.jit(sr.eigenvalues), platforms=["cuda"])(STACK)
    assert re.search(r"custom_call.*tensor<3x2x6x6xf32>", exported.mlir_module())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_equal_the_batched_decomposition(dtype):
    A = jnp.asarray(STACK, dtype) * (1 + 1j if dtype == jnp.complex64 else 1)
    X = jnp.matmul(jnp.swapaxes(A.conj(), -1, -2), A)
    dX = X @ X
    result, tangent = jax.jvp(eigh, (X,), (dX,))
    expected, expected_tangent = jax.jvp(jnp.linalg.eigh, (X,), (dX,))
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-5)
    for values in (tangent[0], expected_tangent[0]):
        np.testing.assert_allclose(values, expected[0] ** 2, rtol=1e-4)
    for vectors in (result[1], expected[1]):
        scaled = vectors * result[0][..., None, :].astype(dtype)
        reached = scaled @ jnp.swapaxes(vectors.conj(), -1, -2)
        np.testing.assert_allclose(reached, X, atol=1e-4)
    assert np.linalg.norm(tangent[1]) < 1e-2  # X @ X has the same vectors


def decompositions_of_an_ensemble(monkeypatch, num_steps, metric, **options):
    """How many matrices are decomposed at each step of four seeds."""
    calls = []

    def counted(X):
        jax.debug.callback(lambda X: calls.append(X.shape), X)
        return tuple(jnp.linalg.eigh(X, symmetrize_input=False))

    monkeypatch.setattr(_stacks, "_values_and_vectors", _stacks.in_turn(counted))
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    params = {"kernel": jnp.asarray(np.random.default_rng(0).standard_normal((4, 32, 24)))}
    state = jax.vmap(transformation.init)(params)
    update = jax.jit(jax.vmap(transformation.update))
    counts = []
    for _ in range(num_steps):
        _, state = jax.block_until_ready(update(params, state, params))
        jax.effects_barrier()
        counts.append(len([shape for shape in calls if shape == (24, 24)]))
        calls.clear()
    return counts


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"metric": sr.alpha}, [4, 4, 4, 4]),
        ({"metric": sr.alpha, "every": 3}, [4, 0, 0, 4]),
        ({"metric": sr.alpha, "tracking": "warm"}, [4, 0, 0, 0]),
        ({"metric": sr.log_stable_rank, "tracking": "warm"}, [0, 0, 0, 0]),
    ],
    ids=["exact", "every", "warm", "warm norms"],
)
def test_an_ensemble_decomposes_only_where_one_seed_does(options, expected, monkeypatch):
    assert decompositions_of_an_ensemble(monkeypatch, 4, **options) == expected


def test_members_of_an_ensemble_at_different_steps():
    """Each has what it has alone, whoever else is due."""
    transformation = sr.add_spectral_penalty(sr.stable_rank, 1.0, every=2)
    params = {"kernel": jnp.asarray(STACK[0])}
    states = jax.vmap(transformation.init)(params)._replace(count=jnp.array([0, 1]))
    _, after = jax.jit(jax.vmap(transformation.update))(params, states, params)
    expected = [float(sr.stable_rank(params["kernel"][0])), 0.0]
    np.testing.assert_allclose(after.penalty, expected, rtol=1e-5)


@pytest.mark.slow
def test_no_process_hangs(tmp_path):
    """Six of six did where stacks were decomposed as one batch (jax 0.10.2, two cores)."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        # Compiled once, and not forty times.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(seed):
        command = [sys.executable, str(TESTS / "stacked_training.py"), str(seed)]
        try:
            subprocess.run(command, env=environment, timeout=120, check=True, cwd=TESTS.parent)
        except subprocess.TimeoutExpired:
            return "hangs"
        return "ends"

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(run, range(40)))
    assert ends.count("hangs") == 0, ends
