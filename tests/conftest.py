"""Strict settings for every test, the paths of the shared data, and what several files need."""

import os
from pathlib import Path

# JAX's decompositions on the CPU are those of SciPy's OpenBLAS. Its threads and XLA's wait for one
# another on a busy machine: 4 s instead of 20 ms for a 384 x 384 eigendecomposition.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import draws
import jax
import matplotlib
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
matplotlib.use("Agg")

DATA = Path(os.environ.get("SPECTRAL_REG_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collectstart(collector):
    draws.restart(collector.nodeid)


def pytest_runtest_setup(item):
    draws.restart(item.nodeid)


@pytest.fixture(autouse=True)
def strict_types():
    """JAX turns no type into another by itself: our own code says each conversion."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture(autouse=True)
def quick_to_compile():
    """Tests compile far more than they run.

    What this leaves out is LLVM's work on single kernels: which operations a program has, and which
    are shared or fused, is as ever.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def promoted_types(strict_types):
    """For what runs code of others that relies on these conversions, such as Optax's Adam."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def float64():
    """Runs the test with 64-bit JAX types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def trained(monkeypatch):
    """The configurations that an experiment trained, by a training that does nothing."""
    from fake_training import fake_train

    from examples.sweeping import sweep

    seen = []

    def train(config, *rest, **kept):
        seen.append(config)
        return fake_train(config, *rest, **kept)

    monkeypatch.setattr(sweep, "train", train)
    return seen


def _data_folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} in {DATA}; set SPECTRAL_REG_DATA to the folder that holds it")
    return folder


@pytest.fixture
def data_dir() -> Path:
    """The folder that holds the CIFAR-10 and MNIST folders."""
    return _data_folder("cifar-10-batches-bin").parent


@pytest.fixture
def checkpoints() -> Path:
    """The folder that holds the trained PyTorch checkpoints."""
    return _data_folder("distiller_resnet20").parent
