"""Whether the directions of the spikes are carried by few coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_matrix
from ._bulk_fit import fit_marchenko_pastur


@dataclass(frozen=True)
class LocalizationMeasures:
    """Three measures of how spread out a unit vector is; smaller is more localized.

    Attributes:
        localization_ratio: ``|v|_1 / |v|_inf``, from 1 to M.
        participation_ratio: ``|v|_2 / |v|_4``, from 1 to M^(1/4).
        entropy: Shannon entropy of the v_i^2 in nats, from 0 to ln M.
    """

    localization_ratio: float
    participation_ratio: float
    entropy: float


@dataclass(frozen=True, eq=False)
class LocalizationResult:
    """Localization of the right singular vectors, in the bulk and in the spikes.

    Attributes:
        bulk: Means over the vectors of the bulk; NaN where there are none.
        spikes: Means over the vectors of the spikes; NaN where there are none.
        random: What a random direction of the same length has.
        num_spikes: How many of the leading vectors are counted as spikes.
        localization_ratio: ``|v|_1 / |v|_inf`` of each vector, shape [rank], largest eigenvalue
            first.
        participation_ratio: ``|v|_2 / |v|_4`` of each, shape [rank].
        entropy: Shannon entropy of each, shape [rank].
    """

    bulk: LocalizationMeasures
    spikes: LocalizationMeasures
    random: LocalizationMeasures
    num_spikes: int
    localization_ratio: NDArray[np.float64] = field(repr=False)
    participation_ratio: NDArray[np.float64] = field(repr=False)
    entropy: NDArray[np.float64] = field(repr=False)


def localization(matrix: ArrayLike, *, num_spikes: int | None = None) -> LocalizationResult:
    r"""Measures the localization of bulk and spike singular vectors on the short side.

    .. math:: L = \frac{\|v\|_1}{\|v\|_\infty}, \qquad P = \frac{\|v\|_2}{\|v\|_4}, \qquad
        H = -\sum_i v_i^2 \ln v_i^2

    The vectors of noise are random directions (Porter-Thomas): :math:`P = (M/3)^{1/4}` and
    :math:`H = \ln M - (2 - \ln 2 - \gamma_E)`. The entropy is taken of :math:`v_i^2` itself; a
    histogram of the components would make it depend on the bins.

    Args:
        matrix: Weight matrix, shape [rows, cols].
        num_spikes: Number of leading vectors that are spikes; by default those above the edge that
            ``fit_marchenko_pastur`` finds.

    Returns:
        ``LocalizationResult``. Directions with zero singular value are left out, as they are
        arbitrary. So are those of a repeated singular value, but they are kept.
        Costs one decomposition with vectors.

    Raises:
        ValueError: If the matrix is not two-dimensional or not finite, or num_spikes is negative or
            above the short side.

    Example:
        >>> import numpy as np, fitting
        >>> noise = np.random.default_rng(0).normal(size=(400, 100))
        >>> noise[:, 7] *= 3
        >>> result = fitting.localization(noise)
        >>> result.num_spikes, result.spikes.entropy < 0.5 * result.bulk.entropy
        (1, True)

    References:
        C. Martin and M. Mahoney, 2021, section 5.
    """
    entries = check_matrix(matrix)
    if entries.shape[0] < entries.shape[1]:
        entries = entries.T
    length = entries.shape[1]
    if num_spikes is not None and not 0 <= num_spikes <= length:
        raise ValueError(f"num_spikes is {num_spikes}; expected 0 to {length}")
    singular_values, vectors = np.linalg.svd(entries, full_matrices=False)[1:]
    fit = fit_marchenko_pastur(singular_values**2, entries.shape)
    spikes = fit.num_spikes if num_spikes is None else num_spikes
    weights = vectors[: length - fit.num_zeros] ** 2
    size = np.sqrt(weights)
    ratio = size.sum(axis=1) / size.max(axis=1)
    participation = (weights**2).sum(axis=1) ** -0.25
    entropy = -(weights * np.log(np.maximum(weights, np.finfo(np.float64).tiny))).sum(axis=1)

    def mean(part: slice) -> LocalizationMeasures:
        if not ratio[part].size:
            return LocalizationMeasures(math.nan, math.nan, math.nan)
        return LocalizationMeasures(
            *(float(measure[part].mean()) for measure in (ratio, participation, entropy))
        )

    return LocalizationResult(
        bulk=mean(slice(spikes, None)),
        spikes=mean(slice(0, spikes)),
        random=_random_direction(length),
        num_spikes=spikes,
        localization_ratio=ratio,
        participation_ratio=participation,
        entropy=entropy,
    )


def _random_direction(length: int) -> LocalizationMeasures:
    from scipy.special import ndtri

    largest = float(ndtri((1 + 0.5 ** (1 / length)) / 2))
    return LocalizationMeasures(
        localization_ratio=max(length * math.sqrt(2 / math.pi) / largest, 1.0),
        participation_ratio=max((length / 3) ** 0.25, 1.0),
        entropy=max(math.log(length) - (2 - math.log(2) - float(np.euler_gamma)), 0.0),
    )
