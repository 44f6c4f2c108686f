"""How much the search for xmin adds to the standard error of alpha.

    python -m benchmarks.calibrate_sigma

Fits planted power laws (five kinds of body below the tail, alpha 1.8 to 4, tails of 50 to 1,000)
and prints, for each, the coverage of alpha +- 1.96 (alpha - 1) / sqrt(num_tail) and the factor that
would make it 95 %. The factor hardly depends on body and alpha and a little on the number in the
tail, so a (1 - b / num_tail) serves: a is `SEARCH_FACTOR` and b `SEARCH_CORRECTION` in
fitting/_power_laws/_power_law.py, those with the smallest largest miss.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fitting._power_laws import _scan

ALPHAS = (1.8, 2.5, 3.2, 4.0)
TAILS = (50, 100, 200, 350, 1000)
NUM_SAMPLES = 8000


def sorted_logs(
    generator: np.random.Generator, shape: tuple[int, int], alpha: float, body: str
) -> NDArray[np.float64]:
    """Logs of spectra with a power-law tail above 1 and a body below, a row each."""
    num_samples, num_tail = shape
    tail = generator.exponential(1 / (alpha - 1), size=shape)
    share = {"none": 0.0, "uniform": 0.3, "step": 0.3, "flush": 0.3, "rising": 0.5}[body]
    num_below = round(num_tail * share / (1 - share))
    below = generator.random((num_samples, num_below))
    if body == "uniform":  # theory.md T14: uniform up to xmin, a jump in the density there
        logs = np.log(0.05 + 0.95 * below)
    elif body == "step":
        logs = np.log(0.5 + 0.5 * below)
    elif body == "flush":  # uniform with the density of the tail at xmin: no jump to see xmin by
        width = min(num_below / num_tail / (alpha - 1), 0.95)
        logs = np.log(1 - width * below)
    else:
        logs = np.log(below)
    return np.sort(np.concatenate([logs, tail], axis=1), axis=1)


def fitted(
    generator: np.random.Generator, num_samples: int, num_tail: int, alpha: float, body: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|alpha - its true value| / sigma_classical and num_tail of the fits to such spectra."""
    rows = sorted_logs(generator, (num_samples, num_tail), alpha, body)
    errors, tails = np.empty(num_samples), np.empty(num_samples)
    for i, row in enumerate(rows):
        start, slope, _ = _scan.scan(row, math.inf, 2, False, _scan.MIN_SLOPE)
        tails[i] = row.size - start
        errors[i] = abs(slope - (alpha - 1)) / (slope / math.sqrt(tails[i]))
    return errors, tails


def main() -> None:
    """Prints the table and the two constants."""
    generator = np.random.default_rng(20240)
    samples = []
    print(f"{'body':8} {'alpha':>5} {'tail':>5} {'coverage':>9} {'factor':>7}")
    for body in ("none", "uniform", "step", "flush", "rising"):
        for alpha in ALPHAS:
            for num_tail in TAILS:
                errors, tails = fitted(generator, NUM_SAMPLES, num_tail, alpha, body)
                samples.append((errors, tails))
                coverage, factor = np.mean(errors < 1.96), np.quantile(errors, 0.95) / 1.96
                print(f"{body:8} {alpha:5.1f} {num_tail:5} {coverage:9.3f} {factor:7.3f}")

    def coverages(a: float, b: float) -> list[float]:
        return [float(np.mean(e < 1.96 * a * (1 - b / tails))) for e, tails in samples]

    grid = [(a, b) for a in np.arange(1.10, 1.26, 0.01) for b in np.arange(0.0, 4.1, 0.5)]
    a, b = min(grid, key=lambda pair: max(abs(c - 0.95) for c in coverages(*pair)))
    covered = coverages(a, b)
    print(
        f"SEARCH_FACTOR = {a:.2f}, SEARCH_CORRECTION = {b:.1f}: covers {min(covered):.3f} to "
        f"{max(covered):.3f}, {np.mean(covered):.3f} on average"
    )
    covered = coverages(1.0, 0.0)
    print(f"without them: {min(covered):.3f} to {max(covered):.3f}")


if __name__ == "__main__":
    main()
