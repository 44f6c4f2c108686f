"""The Marchenko-Pastur bulk under spikes, tails and missing rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_shape, sorted_spectrum
from ._marchenko_pastur import MarchenkoPastur
from ._spikes import SpikeSignals, spike_signals
from ._tracy_widom import largest_eigenvalue_law, tracy_widom_quantile

# Pure noise passes this quantile of the Tracy-Widom law once in a thousand matrices.
SPIKE_QUANTILE = 0.999
# Ranks of the bulk that set the scale: the lowest are rigid but nearly 0, the highest are where
# tails bleed in.
WINDOW = (0.1, 0.7)
MIN_EIGENVALUES = 10
# Beyond, the products that the fit takes leave float64.
RANGE = (1e-140, 1e140)
# Share of the eigenvalues by which the bulk may miss the law. For pure noise the largest miss
# shrinks as 1/M, far below it; a spectrum without a bulk misses by a fifth or more.
KS_CUT = 0.08

ANGLES = np.linspace(0.0, np.pi, 1025)
SINE, COSINE = np.sin(ANGLES), np.cos(ANGLES)


@dataclass(frozen=True)
class MarchenkoPasturFit:
    """The Marchenko-Pastur bulk of a spectrum and what stands out of it.

    Attributes:
        shape: Sides of the matrix as given.
        Q: Aspect ratio of the noise: N / M, or N / (M - num_zeros) where the zeros are dead
            columns.
        sigma2: Noise scale in the normalization of the eigenvalues: N times the variance of an
            element.
        lambda_minus: Lower edge, sigma2 (1 - Q^(-1/2))^2.
        lambda_plus: Upper edge, sigma2 (1 + Q^(-1/2))^2.
        edge_width: Tracy-Widom scale of the largest noise eigenvalue, in units of the eigenvalues.
        spike_threshold: What the largest eigenvalue of pure noise stays below in 999 of 1,000
            matrices, and in 987 at 64 x 64, where the scale itself is uncertain.
        num_spikes: Eigenvalues above ``spike_threshold``.
        num_zeros: Eigenvalues that are 0 to the accuracy of a float32 decomposition.
        ks_distance: Largest gap between the bulk's empirical distribution and the law.
        mp_soft_rank: lambda_plus / lambda_max, clipped to [0, 1].
        valid: Whether the law describes the bulk.
        reason: Why not, or an empty string.
        bulk: The law of the bulk alone, the spikes' dimensions taken out; None where nothing was
            fitted.
        bulk_share: Eigenvalues in the bulk over all eigenvalues.
        spikes: The eigenvalues above ``spike_threshold``, descending.
    """

    shape: tuple[int, int]
    Q: float
    sigma2: float
    lambda_minus: float
    lambda_plus: float
    edge_width: float
    spike_threshold: float
    num_spikes: int
    num_zeros: int
    ks_distance: float
    mp_soft_rank: float
    valid: bool
    reason: str
    bulk: MarchenkoPastur | None = field(repr=False)
    bulk_share: float = field(repr=False)
    spikes: tuple[float, ...] = field(repr=False)

    def density(self, x: ArrayLike) -> NDArray[np.float64]:
        """The fitted bulk, to be drawn over a histogram of all eigenvalues.

        Args:
            x: Eigenvalues, any shape.

        Returns:
            Densities, the shape of x. They integrate to ``bulk_share``, not to 1, so that the
            curve lies on a histogram that was made with ``density=True``.
        """
        if self.bulk is None:
            return np.zeros(np.shape(x))
        return self.bulk_share * self.bulk.pdf(x)

    @property
    def signals(self) -> SpikeSignals:
        """Strength and eigenvector overlap of the signal behind each spike."""
        # Where nothing was fitted the scale is NaN, and there are no spikes to measure by it.
        return spike_signals(self.spikes, self.Q, self.sigma2 if self.spikes else 1.0)


def fit_marchenko_pastur(eigenvalues: ArrayLike, shape: tuple[int, int]) -> MarchenkoPasturFit:
    r"""Fits the Marchenko-Pastur law to the bulk of a spectrum, undisturbed by what stands out.

    Least squares of the eigenvalues in the 10 to 70 % ranks of the bulk on the quantiles of the
    law, :math:`\sigma^2 = \sum_k q_k \lambda_k / \sum_k q_k^2`. The number r of eigenvalues outside
    the bulk is found with it: start at 0, count what lies above the edge, fit again, until nothing
    new does. A spike takes its dimension out of the bulk and pushes the rest down, so the quantiles
    are those of N - r by M - r noise, plus the shift that a spike of finite strength leaves behind,

    .. math:: \#\{\lambda_k \le \lambda(t)\} = (M - r) F(t)
        + \frac1\pi \sum_i \arg(s_i + e^{it}), \qquad
        \lambda(t) = \sigma^2(1 + c - 2\sqrt{c}\cos t)

    with :math:`s_i = \theta_i^2 Q^{1/2}` from the spiked model; r strong spikes in a 64 x 64 matrix
    would otherwise move the edge by several percent.

    Args:
        eigenvalues: Squared singular values of W, not divided by N, any order, shape [min(shape)].
        shape: Sides of W, in either order.

    Returns:
        ``MarchenkoPasturFit``. Zero eigenvalues are read as dead columns or as a cut-off spectrum,
        whichever lies closer to the law. With fewer than 10 positive eigenvalues nothing is fitted:
        ``valid`` is False and the numbers are NaN. Where no bulk follows the law (heavy tails,
        orthogonal matrices) the numbers are those of the nearest law and ``valid`` is False.

    Raises:
        ValueError: If an eigenvalue is negative, NaN or infinite, if there are none, or if their
            number is not min(shape).

    Example:
        >>> import numpy as np, fitting
        >>> noise = np.random.default_rng(0).normal(size=(512, 256)) / np.sqrt(512)
        >>> eigenvalues = np.linalg.svd(noise, compute_uv=False) ** 2
        >>> fit = fitting.fit_marchenko_pastur(eigenvalues, noise.shape)
        >>> fit.num_spikes, round(fit.sigma2, 2), round(fit.lambda_plus, 1)
        (0, 1.0, 2.9)

    Cost: sums over the eigenvalues, a few rounds of them; no decomposition.

    References:
        V. Marchenko and L. Pastur, 1967; Z. Ke, Y. Ma and X. Lin, 2021 (bulk quantiles);
        F. Benaych-Georges and R. Nadakuditi, 2012 (spikes; the shift is the phase of their
        determinant on the bulk).
    """
    values = sorted_spectrum(eigenvalues)
    long, short = check_shape(values, shape)
    num_zeros = count_zeros(values, long)
    positive = values[num_zeros:]
    if not RANGE[0] < values[-1] < RANGE[1] and positive.size:
        reason = f"the largest eigenvalue is {values[-1]:.2g}, at the end of float64; rescale"
        return _nothing(shape, num_zeros, reason)
    if positive.size < MIN_EIGENVALUES:
        return _nothing(
            shape, num_zeros, f"{positive.size} positive eigenvalues; {MIN_EIGENVALUES} are needed"
        )
    bulk = _fit_bulk(positive, long, 0)
    if num_zeros:
        bulk = min(bulk, _fit_bulk(positive, long, num_zeros), key=lambda b: b.ks_distance)
    columns = positive.size + bulk.num_cut
    law = MarchenkoPastur(long / columns, bulk.variance * long)
    centre, scale = largest_eigenvalue_law((long - bulk.num_out, columns - bulk.num_out))
    threshold = bulk.variance * (centre + tracy_widom_quantile(SPIKE_QUANTILE) * scale)
    spikes = positive[positive > threshold][::-1]
    low, high = law.edges
    reason = ""
    if positive[0] == positive[-1]:
        reason = "all positive eigenvalues are equal"
    elif bulk.ks_distance > KS_CUT + 2 / positive.size:
        reason = f"the bulk misses the law by {bulk.ks_distance:.2g} of its eigenvalues"
    return MarchenkoPasturFit(
        shape=(int(shape[0]), int(shape[1])),
        Q=law.Q,
        sigma2=law.sigma2,
        lambda_minus=low,
        lambda_plus=high,
        edge_width=bulk.variance * largest_eigenvalue_law((long, columns))[1],
        spike_threshold=threshold,
        num_spikes=int(spikes.size),
        num_zeros=num_zeros,
        ks_distance=bulk.ks_distance,
        mp_soft_rank=min(high / float(positive[-1]), 1.0),
        valid=not reason,
        reason=reason,
        bulk=bulk.law,
        bulk_share=(positive.size - bulk.num_out) / short,
        spikes=tuple(spikes.tolist()),
    )


def count_zeros(values: NDArray[np.float64], long: int) -> int:
    """How many of the ascending eigenvalues are 0 to the accuracy that the weights have."""
    zeros = 0
    for dtype in (np.float64, np.float32):
        floor = values[-1] * (long * np.finfo(dtype).eps ** 2)
        below = int(np.searchsorted(values, floor, side="right"))
        # Weights that were float32 once leave their zeros at the float32 floor, apart from the
        # rest; a heavy tail may span as many decades, but without a gap.
        if dtype is np.float64 or below == values.size or values[below] / 1e3 > values[below - 1]:
            zeros = max(zeros, below)
    return zeros


class _Bulk(NamedTuple):
    variance: float
    num_out: int
    num_cut: int
    ks_distance: float
    law: MarchenkoPastur


def _fit_bulk(values: NDArray[np.float64], long: int, num_cut: int) -> _Bulk:
    """Fits the bulk of ascending positive eigenvalues that lack the num_cut smallest ones."""
    columns = values.size + num_cut
    strengths = np.zeros(0)
    num_out = 0
    while True:
        n, m = long - num_out, columns - num_out
        law = MarchenkoPastur(n / m)
        count = m * law.cdf_of_angle(ANGLES)
        if num_out:
            count += np.arctan2(SINE, strengths[:, None] + COSINE).sum(axis=0) / np.pi
        bulk = values[: m - num_cut]
        first, last = (round(share * bulk.size) for share in WINDOW)
        ranks = np.arange(num_cut + first, num_cut + max(last, first + 1)) + 0.5
        quantiles = law.eigenvalue_of_angle(np.interp(ranks, count, ANGLES))
        variance = quantiles @ bulk[first : first + ranks.size] / (quantiles @ quantiles) / n
        # The centre of the Tracy-Widom law, not a spike's threshold: what bleeds over the edge must
        # not count as bulk, and to drop the largest noise eigenvalue now and then costs nothing.
        edge = variance * largest_eigenvalue_law((n, m))[0]
        more = min(int(np.count_nonzero(values > edge)), values.size // 2)
        if more <= num_out:
            break
        num_out = more
        n, m = long - num_out, columns - num_out
        root = np.sqrt(m / n)
        height = (values[values.size - num_out :] / (variance * n) - 1 - root**2) / (2 * root)
        strengths = np.exp(np.arccosh(np.maximum(height, 1.0)))
    law = MarchenkoPastur(law.Q, float(variance * n))
    expected = np.interp(law.angle_of_eigenvalue(bulk), ANGLES, count)
    after = np.arange(num_cut + 1, m + 1)
    miss = np.maximum(np.abs(expected - after), np.abs(expected - after + 1)).max() / bulk.size
    return _Bulk(float(variance), num_out, num_cut, min(float(miss), 1.0), law)


def _nothing(shape: tuple[int, int], num_zeros: int, reason: str) -> MarchenkoPasturFit:
    nan = float("nan")
    return MarchenkoPasturFit(
        shape=(int(shape[0]), int(shape[1])),
        Q=max(shape) / min(shape),
        sigma2=nan,
        lambda_minus=nan,
        lambda_plus=nan,
        edge_width=nan,
        spike_threshold=nan,
        num_spikes=0,
        num_zeros=num_zeros,
        ks_distance=nan,
        mp_soft_rank=nan,
        valid=False,
        reason=reason,
        bulk=None,
        bulk_share=0.0,
        spikes=(),
    )
