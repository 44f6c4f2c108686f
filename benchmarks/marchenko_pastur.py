"""Our Marchenko-Pastur fit against WeightWatcher's: time, edge and number of spikes.

    .venv/bin/python -m benchmarks.marchenko_pastur

WeightWatcher is installed into an environment of its own under runs/peers on the first run. Both
fit the same spectra, one after the other, on one core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np

PEER = "weightwatcher==0.7.7"
ENVIRONMENT = Path(__file__).parents[1] / "runs" / "peers" / PEER
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Runs in the peer's environment, so it may use nothing of ours.
PEER_PROGRAM = """
import contextlib, io, json, logging, sys, time
import numpy as np
logging.disable(logging.CRITICAL)
with contextlib.redirect_stdout(io.StringIO()):
    import weightwatcher
    watcher = weightwatcher.WeightWatcher()
results = []
with np.load(sys.argv[1]) as spectra:
    for name in spectra.files:
        values = spectra[name]
        long, short = (int(side) for side in name.split()[0].split("x"))
        def fit():
            return watcher.mp_fit(values, long, short, 1, "", 0, 0, False, False, "", "", 0.6, True,
                                  values)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            spikes, _, _, _, edge, _ = fit()
            times.append(time.perf_counter() - start)
        results.append([min(times), float(edge), int(spikes)])
print(json.dumps(results))
"""


def spectra() -> dict[str, tuple[np.ndarray, int]]:
    """Ascending eigenvalues of noise with variance 1/N and signals, and the number of signals."""
    from benchmarks.phases import edge, eigenvalues, noise, plant

    made = {}
    for shape in ((384, 192), (600, 600), (1024, 512), (4096, 384)):
        rng = np.random.default_rng([2026, *shape])
        decay = 1 + rng.exponential(0.25, round(0.1 * min(shape)))
        for name, heights in {
            "noise": np.zeros(0),
            "one spike at 100 x the edge": np.array([100.0]),
            "nine spikes at 1.35 to 4 x": rng.uniform(1.35, 4, 9),
            "twenty spikes at 2 to 100 x": rng.uniform(2, 100, 20),
            "a decaying tenth": decay,
        }.items():
            matrix = plant(noise(shape, rng), edge(shape) * heights, rng)
            made[f"{shape[0]}x{shape[1]} {name}"] = (eigenvalues(matrix)[::-1], heights.size)
    return made


def best_time(function: Callable[[], object], repeats: int = 20) -> float:
    """Shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def run_peer(made: dict[str, tuple[np.ndarray, int]]) -> list[tuple[float, float, int]]:
    """Time, edge and number of spikes from WeightWatcher, for each spectrum."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "installed").exists():
        print(f"Installing {PEER} into {ENVIRONMENT}", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", PEER], check=True)
        (ENVIRONMENT / "installed").touch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spectra.npz"
        np.savez(path, allow_pickle=False, **{name: values for name, (values, _) in made.items()})
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", PEER_PROGRAM, path],
            env=os.environ | ONE_CORE,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    return [tuple(row) for row in json.loads(answer.splitlines()[-1])]


def main() -> None:
    """Prints a row for each spectrum and the ratio over all of them."""
    from benchmarks.phases import edge
    from fitting import fit_marchenko_pastur

    made = spectra()
    peer = run_peer(made)
    print(
        f"{'':42}{'time, ms':^24}{'edge, error':^20}{'spikes':^20}\n{'':42}"
        f"{'ours':>6}{'theirs':>9}{'ratio':>8} {'ours':>9}{'theirs':>10}"
        f"{'true':>8}{'ours':>6}{'theirs':>7}"
    )
    ratios = []
    for (name, (values, signals)), (seconds, their_edge, their_spikes) in zip(
        made.items(), peer, strict=True
    ):
        long, short = (int(side) for side in name.split()[0].split("x"))
        shape = (long, short)
        fit = fit_marchenko_pastur(values, shape)
        own = best_time(lambda values=values, shape=shape: fit_marchenko_pastur(values, shape))
        ratios.append(seconds / own)
        print(
            f"{name:42}{own * 1e3:6.2f}{seconds * 1e3:9.1f}{ratios[-1]:7.0f}x"
            f" {fit.lambda_plus / edge(shape) - 1:9.2%}{their_edge / edge(shape) - 1:10.1%}"
            f"{signals:8}{fit.num_spikes:6}{their_spikes:7}"
        )
    print(
        f"\n{np.exp(np.mean(np.log(ratios))):.0f} times {PEER}, geometric mean over "
        f"{len(ratios)} spectra; never less than {min(ratios):.0f} times"
    )


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # BLAS reads these when it is loaded, which has happened by now
        command = [sys.executable, "-m", "benchmarks.marchenko_pastur", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=os.environ | ONE_CORE, check=False).returncode)
    main()
