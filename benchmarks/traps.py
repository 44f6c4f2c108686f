"""How often is a trap found where there is one, and where there is none?

    python -m benchmarks.traps [--draws 2000]

Matrices of 120 x 80 with entries of several laws. First none has a trap: the share with p of 0.001
or less and an eigenvalue beyond the edge. Then one entry is made so large that its square is 1.2
times what it takes, the larger of the edge and of the size at which the entry stands apart with
p = 0.001.
"""

import argparse

import numpy as np
from scipy.stats import f as fisher

import fitting
from fitting._random_matrices._traps import MAX_TRAPS, NUM_TAIL

SHAPE = (120, 80)
KINDS = ("Gaussian", "t(3)", "uniform", "mean 3")


def draw(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A matrix without a trap."""
    if kind == "t(3)":
        return rng.standard_t(3, SHAPE)
    if kind == "uniform":
        return rng.uniform(-1, 1, SHAPE)
    return rng.normal(size=SHAPE) + (3 if kind == "mean 3" else 0)


def threshold(matrix: np.ndarray) -> float:
    """The squared size from which on one more entry is a trap."""
    sizes = np.sort(np.abs(matrix - matrix.mean()).ravel())[::-1]
    # One more entry above moves each of these down by a rank.
    spacings = np.arange(2, NUM_TAIL + 2) * np.log(sizes[:NUM_TAIL] / sizes[1 : NUM_TAIL + 1])
    gap = fisher.isf(1e-3 / MAX_TRAPS, 2, 2 * NUM_TAIL) * spacings.mean()
    return float(max(fitting.find_traps(matrix).edge, (sizes[0] * np.exp(gap)) ** 2))


def main() -> None:
    """Prints a line for each law."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'entries':10} {'false alarms':>14} {'found at 1.2':>14}")
    for kind in KINDS:
        false = found = 0
        num_planted = max(options.draws // 10, 1)
        for number in range(options.draws):
            matrix = draw(rng, kind)
            false += fitting.find_traps(matrix).num_traps > 0
            if number < num_planted:
                matrix[3, 5] = matrix.mean() + np.sqrt(1.2 * threshold(matrix))
                found += fitting.find_traps(matrix).num_traps > 0
        print(f"{kind:10} {false / options.draws:14.2%} {found / num_planted:14.1%}", flush=True)


if __name__ == "__main__":
    main()
