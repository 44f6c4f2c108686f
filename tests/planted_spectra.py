"""Spectra with a planted answer: noise, spikes, decays, heavy tails, and the phase of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh_tridiagonal

from fitting import Phase, PhaseResult, classify_phase

Shape = tuple[int, int]
Array = NDArray[np.float64]
SHAPES: tuple[Shape, ...] = ((1000, 400), (1000, 200), (600, 600), (384, 192), (4096, 384))
VERDICT_SHAPES: tuple[Shape, ...] = ((64, 64), (128, 64), (512, 256), (1024, 1024))


def haar(rows: int, cols: int, rng: np.random.Generator) -> Array:
    """Orthonormal columns in random directions."""
    directions, triangle = np.linalg.qr(rng.normal(size=(rows, cols)))
    return directions * np.sign(np.diag(triangle))


def edge(shape: Shape) -> float:
    """Upper Marchenko-Pastur edge of noise with variance 1/N."""
    return (1 + (min(shape) / max(shape)) ** 0.5) ** 2


def noise(shape: Shape, rng: np.random.Generator) -> Array:
    """Gaussian matrix with element variance 1/N."""
    return rng.normal(size=shape) / max(shape) ** 0.5


def plant(matrix: Array, targets: Iterable[float], rng: np.random.Generator) -> Array:
    """Adds the rank-one signals that put eigenvalues of noise of variance 1/N at `targets`."""
    rows, cols = matrix.shape
    c = min(matrix.shape) / max(matrix.shape)
    excess = np.maximum(np.asarray(targets) - 1 - c, 2 * c**0.5)
    theta = np.sqrt((excess + np.sqrt(np.maximum(excess**2 - 4 * c, 0.0))) / 2)
    return matrix + (haar(rows, theta.size, rng) * theta) @ haar(cols, theta.size, rng).T


def eigenvalues(matrix: Array) -> Array:
    """Squared singular values."""
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def gaussian_spectrum(shape: Shape, rng: np.random.Generator) -> Array:
    """Eigenvalues of W^T W for Gaussian W, by Dumitriu and Edelman's bidiagonal model."""
    long, short = max(shape), min(shape)
    diagonal = np.sqrt(rng.chisquare(long - np.arange(short)))
    off = np.sqrt(rng.chisquare(short - 1 - np.arange(short - 1)))
    square = diagonal**2
    square[1:] += off**2
    return np.maximum(eigvalsh_tridiagonal(square, diagonal[:-1] * off), 0.0)


def random_like(shape: Shape, rng: np.random.Generator) -> Array:
    """Pure noise."""
    return eigenvalues(noise(shape, rng))


def bleeding_out(shape: Shape, rng: np.random.Generator) -> Array:
    """Signals for 2.5 % of the eigenvalues within 15 % of the edge."""
    count = round(0.025 * min(shape))
    return eigenvalues(plant(noise(shape, rng), edge(shape) * rng.uniform(1, 1.15, count), rng))


def bulk_spikes(shape: Shape, rng: np.random.Generator) -> Array:
    """Nine spikes at 1.35 to 4 times the edge."""
    return eigenvalues(plant(noise(shape, rng), edge(shape) * rng.uniform(1.35, 4, 9), rng))


def bulk_decay(shape: Shape, rng: np.random.Generator) -> Array:
    """A tenth of the eigenvalues falling off exponentially from the edge, and nine spikes."""
    decay = 1 + rng.exponential(0.25, round(0.1 * min(shape)))
    targets = edge(shape) * np.concatenate([decay, rng.uniform(1.7, 2.4, 9)])
    return eigenvalues(plant(noise(shape, rng), targets, rng))


def heavy_spectrum(shape: Shape, rng: np.random.Generator) -> Array:
    """A power-law sample with alpha = 2.5: with Haar vectors, these are all that is seen."""
    return (1 - rng.uniform(size=min(shape))) ** (-1 / 1.5)


def heavy_entries(shape: Shape, rng: np.random.Generator) -> Array:
    """Symmetric Pareto entries with mu = 1.5."""
    sizes = (1 - rng.uniform(size=shape)) ** (-1 / 1.5)
    return eigenvalues(rng.choice([-1.0, 1.0], size=shape) * sizes)


def law_over_bulk(
    shape: Shape, share: float, alpha: float, rng: np.random.Generator, *, above: bool = False
) -> Array:
    """Noise whose largest eigenvalues are an exact power law instead, from where they begin.

    Args:
        shape: Of the matrix.
        share: Of the eigenvalues that the law has.
        alpha: Its exponent.
        rng: Draws the noise.
        above: Whether the law begins at the edge of noise, which then is whole.
    """
    count = min(shape)
    size = round(share * count)
    whole = size == count or not above
    columns = count if whole else count - size
    values = np.sort(gaussian_spectrum((max(shape), columns), rng))[::-1] / max(shape)
    law = ((np.arange(size) + 0.5) / size) ** (-1 / (alpha - 1))
    if whole:
        return np.concatenate([values[size - 1] * law, values[size:]])
    return np.concatenate([values[0] * law, values])


def hard_collapse(shape: Shape, rng: np.random.Generator) -> Array:
    """Noise with the smallest 70 % of the singular values set to zero."""
    values = random_like(shape, rng)
    values[round(0.3 * values.size) :] = 0
    return values


def soft_collapse(shape: Shape, rng: np.random.Generator) -> Array:
    """Noise with all but nine singular values shrunk to 3 %."""
    values = random_like(shape, rng)
    values[9:] *= 0.03**2
    return values


FAMILIES: dict[str, tuple[Phase, Callable[[Shape, np.random.Generator], Array]]] = {
    "random": (Phase.RANDOM_LIKE, random_like),
    "bleeding": (Phase.BLEEDING_OUT, bleeding_out),
    "bulk+spikes": (Phase.BULK_SPIKES, bulk_spikes),
    "bulk-decay": (Phase.BULK_DECAY, bulk_decay),
    "heavy (a)": (Phase.HEAVY_TAILED, heavy_spectrum),
    "heavy (b)": (Phase.HEAVY_TAILED, heavy_entries),
    "collapse (hard)": (Phase.RANK_COLLAPSE, hard_collapse),
    "collapse (soft)": (Phase.RANK_COLLAPSE, soft_collapse),
}


def results(family: str, shape: Shape, draws: int, seed: int) -> list[PhaseResult]:
    """Verdicts on fresh draws of a family."""
    generate = FAMILIES[family][1]
    rng = np.random.default_rng([seed, *shape, list(FAMILIES).index(family)])
    return [classify_phase(generate(shape, rng), shape) for _ in range(draws)]


def phases(family: str, shape: Shape, draws: int, seed: int) -> Counter[Phase]:
    """Phases given to fresh draws of a family."""
    return Counter(result.phase for result in results(family, shape, draws, seed))


LAW_SHARES, LAW_EXPONENTS = (0.1, 0.25, 0.5, 1.0), (2.0, 2.5, 3.0, 4.0, 5.0)


def law_phases(shape: Shape, draws: int, seed: int) -> Counter[Phase]:
    """Phases given to power laws of every share and exponent over bulks of noise."""
    rng = np.random.default_rng([seed, *shape, 99])
    return Counter(
        classify_phase(law_over_bulk(shape, share, alpha, rng, above=above), shape).phase
        for _ in range(draws)
        for share in LAW_SHARES
        for alpha in LAW_EXPONENTS
        for above in (False, True)
    )


def healthy(
    generate: Callable[[Shape, np.random.Generator], Array], shape: Shape, draws: int, seed: int
) -> int:
    """How many draws get a valid power law and HEAVY_TAILED."""
    rng = np.random.default_rng([seed, *shape])
    verdicts = (classify_phase(generate(shape, rng), shape) for _ in range(draws))
    return sum(v.power_law.valid and v.phase is Phase.HEAVY_TAILED for v in verdicts)
