"""Evaluates a model on a Dask cluster of which one worker is killed; run by test_executors.py."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster

import fitting

NUM_LAYERS = 40


def main() -> None:
    """Prints how many weights were finished when the worker was killed."""
    out = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    params = {f"fc{i}": {"kernel": rng.standard_t(3, (160, 120))} for i in range(NUM_LAYERS)}
    options = {"num_bootstrap": 200, "progress": False}
    expected = fitting.evaluate(params, **options)
    killed = []
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        workers = client.run(os.getpid)

        def kill() -> None:
            while len(list(out.glob("weights/*.npz"))) < 3:
                time.sleep(0.01)
            killed.append(len(list(out.glob("weights/*.npz"))))
            os.kill(next(iter(workers.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        report = fitting.evaluate(params, **options, executor=client.get_executor(), out=out)
        killer.join()
        assert set(client.run(os.getpid).values()) != set(workers.values()), "nobody was killed"
    pd.testing.assert_frame_equal(report.layers, expected.layers)
    for key, eigenvalues in expected.spectra.items():
        np.testing.assert_array_equal(report.spectra[key], eigenvalues)
    print(killed[0])


if __name__ == "__main__":
    main()
