"""Fifty checkpoints of a model of GPT-2's size, beside as many runs of WeightWatcher 0.7.7.

    python -m benchmarks.follow [--checkpoints 3] [--peer-python PYTHON]

Makes checkpoints of a model with GPT-2's 124 million weights, follows them, runs WeightWatcher on
one of them in an environment of its own, and prints what 50 of each would take. Times are those of
all cores together (CPU time), which other programs on the machine change little, and wall time.
"""

import argparse
import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import fitting
from benchmarks import peers
from benchmarks.evaluate import INSTALLS

NUM = 50
WORKER = """
import contextlib, io, json, logging, resource, sys, time, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
from safetensors.torch import load_file
import torch, weightwatcher
weights = {name: weight for name, weight in load_file(sys.argv[1]).items() if weight.ndim == 2}
start, cpu = time.perf_counter(), time.process_time()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    details = weightwatcher.WeightWatcher(model=weights).analyze()
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, len(details)]))
"""


def write(folder: Path, count: int) -> None:
    """Checkpoints of weights that drift, as a run's do."""
    rng = np.random.default_rng(0)
    shapes = {"wte": (50257, 768), "wpe": (1024, 768)}
    for layer in range(12):
        shapes |= {
            f"h.{layer}.attn.c_attn": (2304, 768),
            f"h.{layer}.attn.c_proj": (768, 768),
            f"h.{layer}.mlp.c_fc": (3072, 768),
            f"h.{layer}.mlp.c_proj": (768, 3072),
        }
    weights = {name: rng.standard_t(4, shape).astype(np.float32) for name, shape in shapes.items()}
    for step in range(count):
        for W in weights.values():
            W += 0.01 * rng.standard_normal(W.shape, np.float32)
        save_file(
            {f"{n}.weight": W for n, W in weights.items()}, folder / f"step{step}.safetensors"
        )


def main() -> None:
    """Prints both times, the ratio, and the memory that ours took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--peer-python", type=Path, help="of an environment with WeightWatcher")
    options = parser.parse_args()
    python = options.peer_python or peers.environment("weightwatcher", INSTALLS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.checkpoints)
        # Loads what was compiled.
        heavy = np.random.default_rng(0).standard_t(2, (200, 150))
        fitting.evaluate({"fc": {"kernel": heavy}}, num_bootstrap=9, progress=False)
        start, cpu = time.perf_counter(), time.process_time()
        series = fitting.follow(folder, out=folder / "out", progress=False)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        scale = NUM / options.checkpoints
        print(f"{series}: {NUM} would take {scale * cpu / 60:.1f} minutes of work, "
              f"{scale * wall / 60:.1f} of wall time; peak {peak:.2f} GB", flush=True)  # fmt: skip
        done = subprocess.run(
            [python, "-c", WORKER, folder / "step0.safetensors"],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    their_wall, their_cpu, rows = json.loads(done.stdout.splitlines()[-1])
    print(f"WeightWatcher 0.7.7, {rows} layers: {NUM} would take {NUM * their_cpu / 60:.1f} "
          f"minutes of work, {NUM * their_wall / 60:.1f} of wall time")  # fmt: skip
    print(f"ours over theirs: {scale * cpu / (NUM * their_cpu):.2f} of the work, "
          f"{scale * wall / (NUM * their_wall):.2f} of the wall time")  # fmt: skip


if __name__ == "__main__":
    main()
