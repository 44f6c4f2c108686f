"""Times the other fitters; run by benchmarks/power_law.py in an environment made for them.

python power_law_peers.py spectra.npz   ->   {"peer": {"spectrum": [seconds, alpha]}} as JSON
"""

import contextlib
import importlib
import io
import json
import sys
import time
import types
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np


def weightwatcher_fitter() -> Callable[[np.ndarray], float]:
    """WeightWatcher's fitter alone: its package would import torch, which the fitter never uses."""
    package = types.ModuleType("weightwatcher")
    package.__path__ = list(find_spec("weightwatcher").submodule_search_locations)
    sys.modules["weightwatcher"] = package
    module = importlib.import_module("weightwatcher.WW_powerlaw")
    return lambda x: module.pl_fit(data=x, xmin=None, xmax=None).alpha


def powerlaw_fitter() -> Callable[[np.ndarray], float]:
    """Of the release 1.5."""
    import powerlaw

    return lambda x: powerlaw.Fit(x, verbose=False).alpha


def powerlawrs_fitter() -> Callable[[np.ndarray], float]:
    """Written in Rust."""
    import powerlawrs

    return lambda x: powerlawrs.fit(x).ParetoFit.alpha


def main() -> None:
    """Times each peer on each spectrum: the best of three, or of one that takes over a second."""
    warnings.simplefilter("ignore")
    results: dict[str, dict[str, list[float]]] = {}
    peers = {
        "powerlaw 1.5": powerlaw_fitter,
        "WeightWatcher 0.7.7": weightwatcher_fitter,
        "powerlawrs": powerlawrs_fitter,
    }
    for name, make in peers.items():
        results[name] = {}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            fit = make()
            for spectrum, eigenvalues in np.load(sys.argv[1]).items():
                seconds = []
                while not seconds or (len(seconds) < 3 and seconds[0] < 1):
                    start = time.perf_counter()
                    alpha = fit(eigenvalues)
                    seconds.append(time.perf_counter() - start)
                results[name][spectrum] = [min(seconds), float(alpha)]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
