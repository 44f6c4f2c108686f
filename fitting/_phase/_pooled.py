"""The phase of several matrices of one shape, from their pooled spectrum."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._random_matrices import SPIKE_QUANTILE, largest_eigenvalue_law, tracy_widom_quantile
from ._cuts import PhaseCuts
from ._verdict import PhaseResult, classify_phase

# Variation of the matrices' squared norms up to which they share one variance, beside chance's.
SAME_VARIANCE = 0.02


def classify_pooled(
    eigenvalues: NDArray[np.float64],
    shape: tuple[int, int],
    squared_norms: NDArray[np.float64],
) -> PhaseResult | str:
    """Names the phase of k matrices together, or says why there is none.

    Noise of one variance has one Marchenko-Pastur law whether its matrices are pooled or not, and k
    spectra of [N, M] have as many eigenvalues as one of [k N, k M], with the same Q. Two things are
    not alike. The largest of k largest eigenvalues scatters like that of the small matrices, so the
    cuts beside the edge are moved to where k of them stay below it. And matrices of different
    variances spread a bulk like a signal does: for them the question has no answer.

    Args:
        eigenvalues: Those of all matrices ``[k * M]``.
        shape: Rows and columns of each.
        squared_norms: Sums of the squared entries of each, ``[k]``.
    """
    num_matrices = squared_norms.size
    variation = float(np.std(squared_norms) / np.mean(squared_norms))
    # By chance the squared norms of Gaussian noise scatter by this share.
    chance = (2 / (shape[0] * shape[1])) ** 0.5
    if variation > SAME_VARIANCE + 2 * chance:
        return (
            f"{num_matrices} spectra pooled whose squared norms vary by {variation:.0%}: noise of "
            "one variance would not, and only that has one Marchenko-Pastur law"
        )
    centre, scale = largest_eigenvalue_law(shape)
    quantile = tracy_widom_quantile(1 - (1 - SPIKE_QUANTILE) / num_matrices)
    top = (centre + quantile * scale) / (shape[0] ** 0.5 + shape[1] ** 0.5) ** 2
    top *= 1 + 3 * chance / num_matrices**0.5  # the edge is only as well known as the variance
    cuts = PhaseCuts()
    cuts = replace(
        cuts, random_ratio=max(cuts.random_ratio, top), edge_ratio=max(cuts.edge_ratio, top)
    )
    whole = (num_matrices * shape[0], num_matrices * shape[1])
    result = classify_phase(eigenvalues, whole, cuts=cuts)
    bulk = result.marchenko_pastur
    threshold = max(bulk.spike_threshold, top * bulk.lambda_plus)
    spikes = tuple(spike for spike in bulk.spikes if spike > threshold)
    bulk = replace(bulk, spikes=spikes, num_spikes=len(spikes), spike_threshold=threshold)
    return replace(result, marchenko_pastur=bulk)
