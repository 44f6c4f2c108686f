"""How often `classify_phase` is right: planted families, exact laws, noise, heavy tails.

    python -m benchmarks.phases [--draws 40] [--noise-draws 1000] [--seed 2026]

The cuts of `PhaseCuts` were set on other seeds than any that this script takes.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from fitting import Phase, PhaseResult
from tests.planted_spectra import (
    FAMILIES,
    SHAPES,
    VERDICT_SHAPES,
    gaussian_spectrum,
    healthy,
    heavy_entries,
    heavy_spectrum,
    law_phases,
    results,
)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=40, help="draws of each family and shape")
    parser.add_argument("--noise-draws", type=int, default=1000, help="draws in the second table")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    start = time.perf_counter()

    print(f"Right of {options.draws} draws, seed {options.seed}")
    print(f"{'family':16}" + "".join(f"{f'{n}x{m}':>12}" for n, m in SHAPES))
    right = total = 0
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    for family, (phase, _) in FAMILIES.items():
        row, wrong, every = f"{family:16}", Counter[Phase](), list[PhaseResult]()
        for shape in SHAPES:
            drawn = results(family, shape, options.draws, options.seed)
            found = Counter(result.phase for result in drawn)
            row += f"{found[phase]:12}"
            right, total = right + found.pop(phase, 0), total + options.draws
            wrong += found
            every += drawn
        ranges[family] = {
            name: (min(margins), max(margins))
            for name in every[0].margins
            if (margins := [result.margins[name] for result in every])
        }
        print(row + "".join(f"  {count} {p.name}" for p, count in wrong.items()), flush=True)
    print(f"{right}/{total} = {right / total:.2%}\n")

    print("Exact power laws of 10 to 100 % of the spectrum, alpha 2 to 5, over bulks of noise")
    for shape in SHAPES:
        found = law_phases(shape, max(1, options.draws // 40), options.seed)
        counts = ", ".join(f"{number} {phase.name}" for phase, number in found.most_common())
        print(f"{shape[0]}x{shape[1]}: {counts}")
    print()

    print("Number minus cut, smallest to largest over the draws above")
    names = ("unexplained", "tail_distance", "edge_ratio", "outlier_share", "detached")
    print(f"{'family':16}" + "".join(f"{name:>22}" for name in names))
    for family, numbers in ranges.items():
        spans = ("{:.3g} to {:.3g}".format(*numbers[name]) for name in names)
        print(f"{family:16}" + "".join(f"{span:>22}" for span in spans))
    print()

    print(f"Valid power law and HEAVY_TAILED, of {options.noise_draws} draws")
    print(f"{'family':16}" + "".join(f"{f'{n}x{m}':>12}" for n, m in VERDICT_SHAPES))
    for name, generate, draws in (
        ("Gaussian", gaussian_spectrum, options.noise_draws),
        ("heavy (a)", heavy_spectrum, options.noise_draws // 2),
        ("heavy (b)", heavy_entries, options.noise_draws // 2),
    ):
        shares = (healthy(generate, shape, draws, options.seed) / draws for shape in VERDICT_SHAPES)
        print(f"{name:16}" + "".join(f"{share:12.1%}" for share in shares), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
