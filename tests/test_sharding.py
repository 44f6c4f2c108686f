"""Matrices on a mesh of devices, in processes of their own with eight devices each."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import spectral_reg as sr

TESTS = Path(__file__).parent
EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"


def run(arguments, time_limit, flags=EIGHT_DEVICES):
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    try:
        process = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            timeout=time_limit,
            capture_output=True,
            text=True,
            cwd=TESTS.parent,
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"still running after {time_limit} s: {expired.stdout!r}")
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
def test_on_eight_devices():
    run(["-m", "pytest", "-q", "-x", "-m", "not slow", "tests/eight_devices.py"], 900)


@pytest.mark.slow
def test_on_eight_devices_at_length():
    run(["-m", "pytest", "-q", "-x", "-m", "slow", "tests/eight_devices.py"], 1800)


@pytest.mark.slow
def test_two_processes():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, TESTS / "two_processes.py", str(port), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=180)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("metric", [sr.alpha, sr.log_stable_rank])
def test_one_device_sees_nothing_of_it(metric):
    W = jnp.ones((12, 8))
    jaxpr = str(jax.make_jaxpr(jax.value_and_grad(lambda W: metric(W).sum()))(W))
    for name in ("shard_map", "custom_partitioning", "psum", "all_gather", "while", "scan"):
        assert name not in jaxpr
