"""Our Marchenko-Pastur fit against WeightWatcher's: time, edge and number of spikes.

    python -m benchmarks.marchenko_pastur

WeightWatcher is installed into an environment of its own under build/peers on the first run. Both
fit the same spectra, one after the other, on one core.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from benchmarks import peers
from benchmarks.timing import best_time

PEER = "weightwatcher==0.7.7"


def spectra() -> dict[str, tuple[np.ndarray, int]]:
    """Ascending eigenvalues of noise with variance 1/N and signals, and the number of signals."""
    from tests.planted_spectra import edge, eigenvalues, noise, plant

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


def main() -> None:
    """Prints a row for each spectrum and the ratio over all of them."""
    from fitting import fit_marchenko_pastur
    from tests.planted_spectra import edge

    made = spectra()
    arrays = {name: values for name, (values, _) in made.items()}
    peer = peers.ask("weightwatcher", [[PEER]], "marchenko_pastur_peers.py", arrays)
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
        raise SystemExit(
            subprocess.run(command, env=os.environ | peers.ONE_CORE, check=False).returncode
        )
    main()
