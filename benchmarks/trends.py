"""How often does a drift of alpha over a run show as a trend, and how often does none?

    python -m benchmarks.trends [--draws 1000]

Spectra of 768 eigenvalues that follow a power law, at 20 checkpoints: of one matrix, whose
eigenvalues keep their ranks and scatter a little from checkpoint to checkpoint, or drawn anew each
time. alpha drifts by 0.1 or not at all. Prints the share of draws with p of 0.05 or less. Last, a
matrix without a drift whose eigenvalues wander: what is called a change there is one of it alone.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import fitting
from fitting._series._trends import SHARES, fit_trend, tail_alphas, tail_share

SIZE, STEPS, DRIFT, LEVEL = 768, 20, 0.1, 0.05
ALPHAS = (2.2, 3.0, 4.0)

Array = NDArray[np.float64]


def spectrum(uniforms: Array, alpha: float) -> Array:
    """Eigenvalues of a power law from 1 on, descending."""
    return np.sort((1 - uniforms) ** (-1 / (alpha - 1)))[::-1]


def scattered(rng: np.random.Generator, scale: float) -> Callable[[float], Array]:
    """One matrix: the logarithms of its eigenvalues scatter by this much."""
    uniforms = np.sort(rng.random(SIZE))

    def at(alpha: float) -> Array:
        return np.sort(spectrum(uniforms, alpha) * np.exp(rng.normal(0, scale, SIZE)))[::-1]

    return at


def anew(rng: np.random.Generator) -> Callable[[float], Array]:
    """Another matrix each time."""
    return lambda alpha: spectrum(rng.random(SIZE), alpha)


def wandering(rng: np.random.Generator, scale: float) -> Callable[[float], Array]:
    """One matrix whose eigenvalues each take a random walk."""
    uniforms, logs = np.sort(rng.random(SIZE)), np.zeros(SIZE)

    def at(alpha: float) -> Array:
        logs[:] += rng.normal(0, scale, SIZE)
        return np.sort(spectrum(uniforms, alpha) * np.exp(logs))[::-1]

    return at


def is_trend(at: Callable[[float], Array], alpha: float, drift: float) -> bool:
    """Whether alpha over the checkpoints has a trend, with the tail that a series would choose."""
    spectra = [at(alpha + drift * step / (STEPS - 1)) for step in range(STEPS)]
    sizes = [fitting.fit_power_law(values).num_tail for values in spectra]
    share = tail_share(np.array(sizes) / SIZE)
    alphas = [tail_alphas(values)[SHARES.index(share)] for values in spectra]
    return fit_trend(alphas).p_value <= LEVEL


def main() -> None:
    """Prints a line for each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="for each alpha")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    kinds: dict[str, Callable[[], Callable[[float], Array]]] = {
        "one matrix, scatter 1 %": lambda: scattered(rng, 0.01),
        "one matrix, scatter 10 %": lambda: scattered(rng, 0.1),
        "drawn anew": lambda: anew(rng),
        "one matrix, wandering by 1 %": lambda: wandering(rng, 0.01),
    }
    drifts = (0.0, DRIFT)
    print(f"{'':30} {'no drift':>9} {f'by {DRIFT}':>9}   p <= {LEVEL}, alpha from {ALPHAS}")
    for name, make in kinds.items():
        shares = [
            np.mean([is_trend(make(), a, drift) for a in ALPHAS for _ in range(options.draws)])
            for drift in drifts
        ]
        print(f"{name:30} {shares[0]:9.1%} {shares[1]:9.1%}", flush=True)


if __name__ == "__main__":
    main()
