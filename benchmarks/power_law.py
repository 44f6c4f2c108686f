"""The power-law fitter beside its peers: time and alpha, on one core, in one run.

    python -m benchmarks.power_law [--quick]

Peers that pin an old NumPy get an environment of their own in build/peers, made on the first run.
Prints, for each spectrum, our time, each peer's time over ours, and the alphas (powerlawrs reports
the Pareto shape, alpha - 1); then the same for the comparison with the truncated power law and for
2,500 bootstraps.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import powerlaw
from numpy.typing import NDArray

import fitting
from benchmarks import peers

INSTALLS = (
    ("numpy<2", "scipy", "matplotlib", "mpmath", "powerlaw==1.5", "powerlawrs==0.0.15"),
    ("--no-deps", "weightwatcher==0.7.7"),  # its fitter needs none of what the package asks for
)
SIZES = (192, 384, 500, 1000, 4096)
RANGES = {"alpha": [1.01, None]}

reference = partial(powerlaw.Fit, parameter_ranges=RANGES, verbose=0)


def spectra(sizes: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """A Pareto sample of alpha 2.5 and the spectrum of a Student-t(3) matrix of each size."""
    generator = np.random.default_rng(0)
    result = {}
    for n in sizes:
        result[f"Pareto 2.5, n={n}"] = (1 - generator.random(n)) ** (-1 / 1.5)
        W = generator.standard_t(3, size=(2 * n, n))
        result[f"Student t(3), n={n}"] = np.maximum(np.linalg.eigvalsh(W.T @ W), 0)
    return result


def seconds(function: Callable[[], object], least: float = 0.2) -> float:
    """The fastest of the calls that fit into `least` seconds, of one at the least."""
    times: list[float] = []
    while sum(times) < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def power_law_scan(samples: dict[str, NDArray[np.float64]]) -> None:
    """Prints the table of the search for xmin."""
    times = peers.ask("fitters", INSTALLS, "power_law_peers.py", samples)
    times["powerlaw 2.0.0"] = {}
    for name, x in samples.items():
        taken = seconds(partial(reference, x))
        times["powerlaw 2.0.0"][name] = [taken, float(reference(x).alpha)]
    columns = ["powerlaw 2.0.0", "powerlaw 1.5", "WeightWatcher 0.7.7", "powerlawrs"]
    print("fit_power_law: our time, and each peer's over ours (its alpha)")
    print(f"{'':22}{'ours':>20}", *(f"{name:>22}" for name in columns))
    for name, x in samples.items():
        ours = seconds(partial(fitting.fit_power_law, x))
        cells = [f"{1e3 * ours:9.3f} ms ({fitting.fit_power_law(x).alpha:.3f})"]
        for column in columns:
            taken, alpha = times[column][name]
            cells.append(f"{taken / ours:12,.0f}x ({alpha:.3f})")
        print(f"{name:22}{cells[0]:>20}", *(f"{cell:>22}" for cell in cells[1:]), flush=True)


def truncated_power_law(samples: dict[str, NDArray[np.float64]]) -> None:
    """Prints what the comparison with the truncated power law takes; ours does all four."""
    print(
        "\ncompare_distributions, all four alternatives, over powerlaw 2.0.0's truncated one alone"
    )
    for name, x in samples.items():
        fit = fitting.fit_power_law(x)
        ours = seconds(partial(fitting.compare_distributions, x, fit))
        R = fitting.compare_distributions(x, fit).R["truncated_power_law"]
        start = time.perf_counter()
        theirs = reference(x, xmin=fit.xmin)
        peer_R, _ = theirs.distribution_compare("power_law", "truncated_power_law")
        taken = time.perf_counter() - start
        print(
            f"{name:22}{1e3 * ours:9.2f} ms {taken / ours:8,.0f}x   R {R:.4f} ({peer_R:.4f})",
            flush=True,
        )


def bootstraps(samples: dict[str, NDArray[np.float64]]) -> None:
    """Prints what 2,500 bootstraps take; powerlaw has none, so its time is 2,500 of its fits."""
    print(
        "\ngoodness_of_fit, 2,500 bootstraps, over 2,500 fits of powerlaw 2.0.0 (from one of them)"
    )
    for name, x in samples.items():
        fit = fitting.fit_power_law(x)
        ours = seconds(partial(fitting.goodness_of_fit, x, fit))
        taken = seconds(partial(reference, x))
        p = fitting.goodness_of_fit(x, fit)
        print(f"{name:22}{ours:9.3f} s  {2500 * taken / ours:8,.0f}x   p {p:.3f}", flush=True)


def main() -> None:
    """Runs the three on one core."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="n = 192 and 384 only")
    sizes = SIZES[:2] if parser.parse_args().quick else SIZES
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore")  # powerlaw warns of nearly every fit
    samples = spectra(sizes)
    fitting.fit_power_law(next(iter(samples.values())))  # compiles, or loads what was compiled
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, one core\n")
    power_law_scan(samples)
    truncated_power_law(samples)
    bootstraps({name: x for name, x in samples.items() if x.size == 384})


if __name__ == "__main__":
    main()
