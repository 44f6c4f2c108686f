"""Whole checkpoints beside WeightWatcher 0.7.7, on one core, in one run.

    python -m benchmarks.evaluate CHECKPOINT... [--full] [--peer-python PYTHON]

Prints for each checkpoint our time with all columns, and WeightWatcher's over it: its default
(power laws and norms, the slices of a convolution pooled), its default with each slice for itself
(ours then names their phases too), and with --full its whole analysis, mp_fit and randomize, which
takes minutes. Reading the file counts, imports and compilation do not. Then what we add to the bare
decomposition of a 3072 x 1024 layer. WeightWatcher gets an environment of its own in build/peers,
made on the first run, unless one is given.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import fitting
from benchmarks import peers
from benchmarks.timing import best_time

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


def main() -> None:
    """Runs both on one core."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--full", action="store_true", help="WeightWatcher's full analysis too")
    parser.add_argument("--peer-python", type=Path, help="of an environment with WeightWatcher")
    options = parser.parse_args()
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
