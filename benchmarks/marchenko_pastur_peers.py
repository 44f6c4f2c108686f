"""Times WeightWatcher's fit of the bulk; run by benchmarks/marchenko_pastur.py in its environment.

python marchenko_pastur_peers.py spectra.npz   ->   [[seconds, edge, spikes], ...] as JSON
"""

import contextlib
import io
import json
import logging
import sys
import time

import numpy as np


def timed_fit(watcher, name: str, values: np.ndarray) -> list[float]:
    """The shortest of three runs, the edge and the number of spikes."""
    long, short = (int(side) for side in name.split()[0].split("x"))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        spikes, _, _, _, edge, _ = watcher.mp_fit(
            values, long, short, 1, "", 0, 0, False, False, "", "", 0.6, True, values
        )
        times.append(time.perf_counter() - start)
    return [min(times), float(edge), int(spikes)]


def main() -> None:
    """Prints the fits of all spectra."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        import weightwatcher

        watcher = weightwatcher.WeightWatcher()
    with np.load(sys.argv[1]) as spectra:
        print(json.dumps([timed_fit(watcher, name, spectra[name]) for name in spectra.files]))


if __name__ == "__main__":
    main()
