"""What a spike says about the signal under the noise: the spiked model, inverted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._marchenko_pastur import MarchenkoPastur


@dataclass(frozen=True, eq=False)
class SpikeSignals:
    """The rank-one signals behind the spikes of a spectrum, largest first.

    Attributes:
        eigenvalues: The spikes, shape [num_spikes].
        theta: Signal strength in units of the noise: detectable above Q^(-1/4).
        strength: Singular value of the signal itself, in the units of the matrix.
        left_overlap: Squared cosine between the signal's and the spike's singular vector on the
            long side (length N).
        right_overlap: The same on the short side (length M).
    """

    eigenvalues: NDArray[np.float64]
    theta: NDArray[np.float64]
    strength: NDArray[np.float64]
    left_overlap: NDArray[np.float64]
    right_overlap: NDArray[np.float64]


def spike_signals(eigenvalues: ArrayLike, Q: float, sigma2: float = 1.0) -> SpikeSignals:
    r"""Signal strength and overlaps behind each spike.

    For :math:`W = R + \theta\sigma u v^T`, with R noise of variance :math:`\sigma^2/N` and c = 1/Q:

    .. math:: \frac{\lambda}{\sigma^2} = \frac{(1 + \theta^2)(c + \theta^2)}{\theta^2}, \qquad
        |\langle v, \hat v\rangle|^2 = 1 - \frac{c(1 + \theta^2)}{\theta^2(\theta^2 + c)}, \qquad
        |\langle u, \hat u\rangle|^2 = 1 - \frac{c + \theta^2}{\theta^2(\theta^2 + 1)}

    Args:
        eigenvalues: Squared singular values that stand out, shape [num_spikes].
        Q: Aspect ratio of the matrix, N / M >= 1.
        sigma2: Noise scale as in ``MarchenkoPasturFit``: N times the variance of an element.

    Returns:
        ``SpikeSignals``. A signal below the detection threshold :math:`\theta_c = Q^{-1/4}` leaves
        its eigenvalue at the edge: eigenvalues at or below the edge get theta = Q^(-1/4), overlap
        0.

    Raises:
        ValueError: If an eigenvalue is not finite, Q is below 1, or sigma2 is not positive and
            finite.

    Example:
        >>> import fitting
        >>> signals = fitting.spike_signals([3.9722], Q=2.0)
        >>> signals.theta.round(3), signals.right_overlap.round(3), signals.left_overlap.round(3)
        (array([1.5]), array([0.737]), array([0.624]))

    References:
        F. Benaych-Georges and R. Nadakuditi, 2012; J. Baik, G. Ben Arous and S. Péché, 2005.
    """
    spikes = np.sort(np.asarray(eigenvalues, dtype=np.float64).ravel())[::-1]
    if not np.isfinite(spikes).all():
        raise ValueError(
            f"eigenvalues has {spikes[~np.isfinite(spikes)][0]}; expected finite numbers"
        )
    MarchenkoPastur(Q, sigma2)  # refuses what is no noise
    c = 1 / Q
    excess = np.maximum(spikes / sigma2 - 1 - c, 2 * np.sqrt(c))
    square = (excess + np.sqrt(np.maximum(excess**2 - 4 * c, 0.0))) / 2
    right = 1 - c * (1 + square) / (square * (square + c))
    left = 1 - (c + square) / (square * (square + 1))
    return SpikeSignals(
        eigenvalues=spikes,
        theta=np.sqrt(square),
        strength=np.sqrt(square * sigma2),
        left_overlap=np.clip(left, 0.0, 1.0),
        right_overlap=np.clip(right, 0.0, 1.0),
    )
