"""What each estimator of alpha gives, how it jumps, and how many eigenvalues carry its gradient.

    python -m benchmarks.estimators [--checkpoints FOLDER]

For every spectrum: the fit of Clauset, Shalizi and Newman (CSN), and each estimator's distance from
it; then over all of them the mean distance, the largest change under 0.1 % noise of the weights,
the number of eigenvalues that carry the gradient (a participation ratio), and the time of value and
gradient on a 4096 x 384 matrix.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fitting
import spectral_reg as sr
from benchmarks.timing import call_times
from fitting._checkpoints import open_checkpoint

ESTIMATORS = {
    "hill()": sr.hill(),
    "smooth_hill()": sr.smooth_hill(),
    "soft_csn()": sr.soft_csn(),
    "frozen_csn()": sr.frozen_csn(),
}
NUM_NOISES = 20
CHECKPOINTS = {
    "trained conv, flat": ("distiller_resnet20/checkpoint_trained_dense.pth.tar", "layer3/2/conv1"),
    "trained conv, flat, late": (
        "distiller_resnet20/checkpoint_trained_dense.pth.tar",
        "layer3/2/conv2",
    ),
}


def with_spectrum(eigenvalues: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A matrix of 2 M rows with random singular vectors."""
    M = len(eigenvalues)
    left = np.linalg.qr(rng.standard_normal((2 * M, M)))[0]
    right = np.linalg.qr(rng.standard_normal((M, M)))[0]
    return (left * np.sqrt(eigenvalues)) @ right.T


def battery(checkpoints: Path | None) -> dict[str, np.ndarray]:
    """The matrices, by name."""
    rng = np.random.default_rng(0)
    shape = (768, 384)
    noise = rng.standard_normal(shape)
    spikes = noise.copy()
    spikes[:, :9] *= np.linspace(2, 4, 9)
    matrices = {"Gaussian": noise, "nine spikes": spikes}
    for degrees in (1.5, 2.5, 3):
        matrices[f"Student t({degrees:g})"] = rng.standard_t(degrees, shape)
    u = (np.arange(384) + 0.5) / 384
    for exponent in (2, 2.5, 3, 4):
        law = (1 - u) ** (-1 / (exponent - 1))
        matrices[f"power law {exponent:g}"] = with_spectrum(law, rng)
    if checkpoints:
        for name, (file, layer) in CHECKPOINTS.items():
            path = f"{layer}/kernel"
            params = {path: open_checkpoint(checkpoints / file)[path].read()}
            matrices[name] = sr.layer_matrices(params, conv="flatten")[path]
    return {name: np.asarray(W, np.float64) for name, W in matrices.items()}


def milliseconds(estimator: sr.SpectralMetric) -> float:
    """Median time of value and gradient."""
    W = jax.random.normal(jax.random.key(0), (4096, 384))
    function = jax.jit(jax.value_and_grad(lambda W: sr.alpha(W, estimator=estimator)))
    jax.block_until_ready(function(W))
    return 1e3 * float(np.median(call_times(lambda: jax.block_until_ready(function(W)), 15)))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, help="folder of distiller_resnet20/")
    matrices = battery(parser.parse_args().checkpoints)
    rng = np.random.default_rng(1)
    distances: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    jumps = dict.fromkeys(ESTIMATORS, 0.0)
    carriers: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    with jax.enable_x64(True):
        compiled = {name: jax.jit(jax.value_and_grad(e)) for name, e in ESTIMATORS.items()}
        print(f"{'':28}{'CSN':>7}", *(f"{name:>14}" for name in ESTIMATORS))
        for label, W in matrices.items():
            eigenvalues = np.linalg.svd(W, compute_uv=False) ** 2
            exact = fitting.fit_power_law(eigenvalues).alpha
            noises = W.std() * 1e-3 * rng.standard_normal((NUM_NOISES, *W.shape))
            noisy = np.linalg.svd(W + noises, compute_uv=False) ** 2
            cells = []
            for name, function in compiled.items():
                value, gradient = function(jnp.asarray(eigenvalues))
                force = np.abs(np.asarray(gradient) * eigenvalues)
                carriers[name].append(force.sum() ** 2 / (force**2).sum())
                distances[name].append(abs(float(value) - exact))
                moved = [float(function(jnp.asarray(spectrum))[0]) for spectrum in noisy]
                jumps[name] = max(jumps[name], np.abs(np.array(moved) - float(value)).max())
                cells.append(f"{float(value) - exact:+14.3f}")
            print(f"{label:28}{exact:7.3f}", *cells, flush=True)
    print(f"\n{'':28}{'':7}", *(f"{name:>14}" for name in ESTIMATORS))
    rows = {
        "mean distance from CSN": [f"{np.mean(distances[name]):.3f}" for name in ESTIMATORS],
        "largest change, 0.1 % noise": [f"{jumps[name]:.3f}" for name in ESTIMATORS],
        "eigenvalues in the gradient": [f"{np.mean(carriers[name]):.0f}" for name in ESTIMATORS],
        "ms, 4096 x 384": [f"{milliseconds(e):.1f}" for e in ESTIMATORS.values()],
    }
    for label, cells in rows.items():
        print(f"{label:35}", *(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
