"""Whole checkpoints beside WeightWatcher 0.7.7, on one core, in one run.

    python -m benchmarks.evaluate CHECKPOINT... [--full] [--peer-python PYTHON]
    python -m benchmarks.evaluate --large
    python -m benchmarks.evaluate --device

Prints for each checkpoint our time with all columns, and WeightWatcher's over it: its default
(power laws and norms, the slices of a convolution pooled), its default with each slice for itself
(ours then names their phases too), and with --full its whole analysis, mp_fit and randomize, which
takes minutes. Reading the file counts, imports and compilation do not. Then what we add to the bare
decomposition of a 3072 x 1024 layer. WeightWatcher gets an environment of its own in build/peers,
made on the first run, unless one is given. --large instead evaluates two blocks of a model of 7
billion weights, on all cores, and says what all its blocks would take, and how much memory the
process has held; beside it the bare svd of two of the matrices, as WeightWatcher takes it. --device
measures such a block where JAX has a GPU, and two of its matrices beside the CPU's cores, in half a
minute.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

import fitting
from benchmarks import peers
from benchmarks.timing import best_time
from fitting._cores import num_cores
from fitting._evaluation._eigenvalues import squared_singular_values
from fitting._evaluation._on_accelerator import has_accelerator

INSTALLS = (("torch==2.13.0", "weightwatcher==0.7.7"),)
SHAPE = (3072, 1024)
REPEATS = 3
# Name, WeightWatcher's options (see evaluate_peers.py) and ours.
COMPARED = (("default, conv pooled", "default", "pooled"), ("each slice", "slices", "slices"))
FULL = ("full analysis, pooled", "full", "pooled")


def checkpoints(paths: Sequence[Path], *, full: bool, python: Path | None) -> None:
    """Prints the table of the checkpoints, and the ratios of the sums."""
    compared = (*COMPARED, FULL) if full else COMPARED
    ours = {
        conv: [
            best_time(partial(fitting.evaluate, path, conv=conv, progress=False), REPEATS)
            for path in paths
        ]
        for conv in ("pooled", "slices")
    }
    question = {
        "paths": np.array([str(path) for path in paths]),
        "modes": np.array([mode for _, mode, _ in compared]),
        "repeats": np.array(REPEATS),
    }
    theirs = peers.ask("weightwatcher", INSTALLS, "evaluate_peers.py", question, python=python)
    print("fitting.evaluate: our time, and WeightWatcher's over ours")
    print(f"{'':32}", *(f"{name:>24}" for name, _, _ in compared))
    for number, path in enumerate([*paths, None]):
        cells = []
        for _, mode, conv in compared:
            if path is None:
                own, other = sum(ours[conv]), sum(theirs[mode])
            else:
                own, other = ours[conv][number], theirs[mode][number]
            cells.append(f"{1e3 * own:12.0f} ms {other / own:7.1f}x")
        name = path.name if path is not None else "all"
        print(f"{name:32}", *(f"{cell:>24}" for cell in cells), flush=True)


def one_layer() -> None:
    """Prints what the evaluation of one layer takes beside its bare decomposition."""
    W = np.random.default_rng(0).standard_t(3, SHAPE)
    bare = best_time(partial(np.linalg.svd, W, compute_uv=False), REPEATS)
    params = {"fc": {"kernel": W}}
    ours = best_time(partial(fitting.evaluate, params, progress=False), REPEATS)
    print(f"\na {SHAPE[0]} x {SHAPE[1]} layer: {ours:.3f} s, {ours / bare:.2f} times its bare svd")


def block() -> dict[str, np.ndarray]:
    """The matrices of one of the 32 blocks of a model of 7B weights."""
    shapes = dict.fromkeys(("q", "k", "v", "o"), (4096, 4096))
    shapes |= dict.fromkeys(("gate", "up"), (11008, 4096)) | {"down": (4096, 11008)}
    generator = np.random.default_rng(0)
    return {
        f"{name}_proj.weight": (0.02 * generator.standard_normal(shape, np.float32)).astype(
            ml_dtypes.bfloat16
        )
        for name, shape in shapes.items()
    }


def large() -> None:
    """Prints what a model of 7B weights takes, scaled from two of its 32 blocks.

    The seven matrices of one would leave a core of two idle for the last of them.
    """
    weights = {f"{number}.{name}": W for number in range(2) for name, W in block().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blocks.safetensors"
        save_file(weights, path)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        fitting.evaluate(path, progress=False)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"two blocks, 8 of 4096 x 4096 and 6 of 4096 x 11008 in bfloat16: {wall:.1f} s of wall "
        f"time, {cpu:.1f} s of work, load average {os.getloadavg()[0]:.1f} on {num_cores()} cores\n"
        f"32 blocks: {16 * wall / 60:.1f} minutes, {16 * cpu / 60:.1f} of work; peak "
        f"{peak / 2**20:.2f} GB ({held / 2**20:.2f} GB before)",
        flush=True,
    )
    svd = []
    for name in ("q_proj.weight", "up_proj.weight"):
        W = block()[name]
        with threadpool_limits(1):
            cpu = time.process_time()
            squared_singular_values(W)
            cpu = time.process_time() - cpu
        print(f"{W.shape[0]} x {W.shape[1]} alone on one thread: {cpu:.1f} s of work", flush=True)
        start = time.perf_counter()
        np.linalg.svd(W.astype(np.float32), compute_uv=False)
        svd.append(time.perf_counter() - start)
    print(
        f"bare float32 svd on all cores: {svd[0]:.1f} s and {svd[1]:.1f} s, for 32 blocks "
        f"{32 * (4 * svd[0] + 3 * svd[1]) / 60:.1f} minutes"
    )


def device(weights: dict[str, np.ndarray]) -> None:
    """Prints what a block takes on the GPU, and two of its matrices there and on all cores."""
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; {num_cores()} cores")
    for name in ("q_proj.weight", "up_proj.weight"):
        W = weights[name]
        there = squared_singular_values(W, accelerator=True)  # compiles
        on_gpu = best_time(partial(squared_singular_values, W, accelerator=True), REPEATS)
        start = time.perf_counter()
        here = squared_singular_values(W)
        on_cpu = time.perf_counter() - start
        error = np.abs(there - here).max() / here[0]
        rows, cols = W.shape
        print(
            f"{rows} x {cols} in bfloat16: GPU {on_gpu:.3f} s, CPU {on_cpu:.2f} s, "
            f"{on_cpu / on_gpu:.1f} times as long; they differ by {error:.1e} of the largest",
            flush=True,
        )
    wall = best_time(partial(fitting.evaluate, weights, progress=False), REPEATS)
    print(f"one block, evaluated: {wall:.2f} s; 32 blocks: {32 * wall / 60:.2f} minutes")


def main() -> None:
    """Runs both on one core."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--large", action="store_true", help="a model of 7B weights instead")
    parser.add_argument("--device", action="store_true", help="of that model, where JAX has a GPU")
    parser.add_argument("--full", action="store_true", help="WeightWatcher's full analysis too")
    parser.add_argument("--peer-python", type=Path, help="of an environment with WeightWatcher")
    options = parser.parse_args()
    if options.large:
        fitting.evaluate({"fc": {"kernel": np.eye(90)}}, progress=False)
        large()
        return
    if options.device:
        if not has_accelerator():
            parser.error(f"--device needs a GPU; JAX has {jax.default_backend()}")
        device(block())
        return
    if not options.checkpoints:
        parser.error("expected checkpoints, --large or --device")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    threadpool_limits(1)
    fitting.evaluate({"fc": {"kernel": np.eye(90)}}, progress=False)  # loads what was compiled
    print(
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, one core, load average "
        f"{os.getloadavg()[0]:.1f} at the start\n"
    )
    fitting.evaluate(options.checkpoints[0], progress=False)
    checkpoints(options.checkpoints, full=options.full, python=options.peer_python)
    one_layer()


if __name__ == "__main__":
    main()
