"""The 5+1 phases of training, named from the spectrum of one matrix."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_matrix, check_shape, refuse_masked, sorted_spectrum
from .._power_laws import PowerLawFit
from .._power_laws._power_law import fit_tail
from .._random_matrices import MarchenkoPasturFit, fit_marchenko_pastur
from ._cuts import PhaseCuts
from ._evidence import gather_evidence

# What a cut is for, where the number has another name: two cuts may be for one number.
NUMBERS = {
    "min_eigenvalues": "num_eigenvalues",
    "law_share": "power_law_tail_share",
    "random_ratio": "edge_ratio",
    "detached": "gap",
    "collapse_gap": "gap",
}
# Fewer eigenvalues than this lie on a line by chance.
LEAST_IN_A_LAW = 16


class Phase(enum.Enum):
    """Phases of training after Martin and Mahoney, 2021, Table 2, and one for mixed evidence."""

    RANDOM_LIKE = "random-like"
    BLEEDING_OUT = "bleeding-out"
    BULK_SPIKES = "bulk+spikes"
    BULK_DECAY = "bulk-decay"
    HEAVY_TAILED = "heavy-tailed"
    RANK_COLLAPSE = "rank-collapse"
    UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, eq=False)
class PhaseResult:
    """A phase with everything that led to it.

    Attributes:
        phase: The phase.
        reasons: Why, in plain sentences.
        evidence: Every number that was looked at.
        margins: For every cut that was looked at, by its name in :class:`PhaseCuts`: the number
            minus the cut.
        mp_soft_rank: lambda_plus / lambda_max clipped to [0, 1]; 0 if HEAVY_TAILED, the paper's
            convention.
        mp_soft_rank_raw: The same ratio, neither clipped nor set to 0.
        marchenko_pastur: The fit of the bulk.
        power_law: The fit of the tail.
    """

    phase: Phase
    reasons: tuple[str, ...]
    evidence: Mapping[str, float] = field(repr=False)
    margins: Mapping[str, float] = field(repr=False)
    mp_soft_rank: float
    mp_soft_rank_raw: float
    marchenko_pastur: MarchenkoPasturFit = field(repr=False)
    power_law: PowerLawFit = field(repr=False)


def classify_phase(
    matrix_or_eigenvalues: ArrayLike,
    shape: tuple[int, int] | None = None,
    *,
    cuts: PhaseCuts | None = None,
) -> PhaseResult:
    """Names the phase of training that a weight matrix is in.

    The questions, in this order; the first yes decides:

    1. Are there fewer than 50 eigenvalues? ``UNCLASSIFIED``.
    2. Are many eigenvalues zero, or do a few, far above the rest, hold the squared norm?
       ``RANK_COLLAPSE``.
    3. Does the Marchenko-Pastur law leave a fifth of the eigenvalues unexplained? Then
       ``HEAVY_TAILED`` if a power law describes what it leaves, ``BULK_DECAY`` if it does not and
       the rest still is a bulk, ``UNCLASSIFIED`` if neither law holds. (Eigenvalues that all stand
       clear of a good bulk are left to question 6.)
    4. Is there no bulk? ``UNCLASSIFIED``.
    5. Does nothing lie more than 4 % above the edge? ``RANDOM_LIKE``. Nothing far above it?
       ``BLEEDING_OUT``.
    6. Do many eigenvalues run on from the edge? ``BULK_DECAY``. Else ``BULK_SPIKES``.

    A spectrum cannot say where it comes from. Noise whose rows or columns differ in scale spreads
    past the edge and reads as ``BLEEDING_OUT`` or ``BULK_DECAY``; entries with infinite fourth
    moment make spikes of their own, one for each large entry; a matrix with a mean has one spike.
    With fewer than about 120 eigenvalues a bulk decay looks heavy-tailed.

    Args:
        matrix_or_eigenvalues: Weight matrix, shape [rows, cols], or its squared singular values,
            shape [min(rows, cols)], any order.
        shape: Sides of the matrix, in either order; needed with eigenvalues.
        cuts: Cuts to use instead of the measured ones.

    Returns:
        ``PhaseResult``. The phase does not change under a rescaling, a transposition or a rotation
        of the matrix. Costs the decomposition, and one fit of each law.

    Raises:
        ValueError: If an entry or an eigenvalue is not finite, an eigenvalue is negative, or the
            shape does not match.

    Example:
        >>> import numpy as np, fitting
        >>> noise = np.random.default_rng(0).normal(size=(400, 200))
        >>> fitting.classify_phase(noise).phase
        <Phase.RANDOM_LIKE: 'random-like'>
        >>> signal = 40 * np.outer(np.ones(400) / 20, np.ones(200) / 200**0.5)
        >>> fitting.classify_phase(noise + signal).reasons
        ('1 eigenvalue lies above ..., where noise ends',
         'the largest is ... times the edge')

    References:
        C. Martin and M. Mahoney, 2021, Table 2 (the phases; the questions and cuts are ours).
    """
    cuts = cuts or PhaseCuts()
    values, shape = _spectrum_and_shape(matrix_or_eigenvalues, shape)
    bulk, tail = fit_marchenko_pastur(values, shape), fit_tail(values)
    evidence = gather_evidence(values, bulk, tail, cuts)
    phase, reasons = _decide(evidence, bulk, tail, cuts)
    margins = {
        name: number - evidence.get(f"{name}_cut", cut)
        for name, cut in asdict(cuts).items()
        if (number := evidence.get(NUMBERS.get(name, name))) is not None
    }
    raw = bulk.lambda_plus / float(values[-1]) if values[-1] > 0 else float("nan")
    return PhaseResult(
        phase=phase,
        reasons=reasons,
        evidence=evidence,
        margins=margins,
        mp_soft_rank=0.0 if phase is Phase.HEAVY_TAILED else bulk.mp_soft_rank,
        mp_soft_rank_raw=raw,
        marchenko_pastur=bulk,
        power_law=tail,
    )


def _spectrum_and_shape(
    matrix_or_eigenvalues: ArrayLike, shape: tuple[int, int] | None
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    refuse_masked("matrix_or_eigenvalues", matrix_or_eigenvalues)
    given = np.asarray(matrix_or_eigenvalues)
    if given.ndim == 1:
        if shape is None:
            raise ValueError(
                f"shape is None; expected the two sides of the matrix beside its {given.size} "
                "eigenvalues, as the edge of the bulk depends on both"
            )
        values = sorted_spectrum(given)
        check_shape(values, shape)
        return values, shape
    matrix = check_matrix(given)
    if shape is not None and sorted(shape) != sorted(matrix.shape):
        raise ValueError(
            f"shape is {tuple(shape)}; expected {matrix.shape}, as of the matrix, or None"
        )
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    return sorted_spectrum(singular_values**2), (matrix.shape[0], matrix.shape[1])


def _decide(
    evidence: Mapping[str, float], bulk: MarchenkoPasturFit, tail: PowerLawFit, cuts: PhaseCuts
) -> tuple[Phase, tuple[str, ...]]:
    count = evidence["num_eigenvalues"]
    if count < cuts.min_eigenvalues:
        few = f"{count:.0f} eigenvalues; {cuts.min_eigenvalues} are needed to tell phases apart"
        return Phase.UNCLASSIFIED, (few,)
    if evidence["zero_share"] == 1:
        return Phase.UNCLASSIFIED, ("all eigenvalues are zero",)
    if evidence["zero_share"] > cuts.zero_share:
        return Phase.RANK_COLLAPSE, (f"{evidence['zero_share']:.0%} of the eigenvalues are zero",)
    if bulk.bulk is None:
        return Phase.UNCLASSIFIED, (bulk.reason,)
    outliers = int(evidence["num_outliers"])
    above = (
        f"{outliers} eigenvalue{' lies' if outliers == 1 else 's lie'} above "
        f"{bulk.spike_threshold:.4g}, where noise ends"
    )
    largest = f"the largest is {evidence['edge_ratio']:.3g} times the edge"
    apart = f"a gap of {evidence['gap']:.2g} widths of the bulk lies below them"
    collapsed = evidence["gap"] > cuts.collapse_gap
    if bulk.valid and collapsed and evidence["collapse_share"] > cuts.collapse_share:
        held = f"they hold {evidence['collapse_share']:.0%} of the squared norm"
        return Phase.RANK_COLLAPSE, (above, apart, held)
    steep = evidence["cliff"] > cuts.cliff and evidence["cliff_share"] > cuts.collapse_share
    if steep:
        fall = f"a cliff lies below the largest {evidence['num_above_cliff']:.0f}"
        held = f"they hold {evidence['cliff_share']:.0%} of the squared norm"
        return Phase.RANK_COLLAPSE, (fall, held)

    followed = evidence["power_law_tail_share"]
    long = followed >= cuts.law_share and tail.num_tail >= LEAST_IN_A_LAW
    exact = tail.valid and evidence["law_deviation"] <= cuts.law_deviation
    if long and exact and evidence["edge_ratio"] > cuts.random_ratio:
        law = (
            f"a power law with alpha {tail.alpha:.2f} follows the largest {followed:.0%} more "
            "closely than chance does"
        )
        heavy = followed >= cuts.unexplained
        return Phase.HEAVY_TAILED if heavy else Phase.BULK_DECAY, (law, largest)

    misses = f"the Marchenko-Pastur law leaves {evidence['unexplained']:.0%} unexplained"
    straight = evidence["tail_distance"] <= evidence["tail_distance_cut"]
    detached = bulk.valid and evidence["gap"] > evidence["detached_cut"]
    if evidence["unexplained"] >= cuts.unexplained and not detached:
        if tail.valid and straight:
            law = f"a power law with alpha {tail.alpha:.2f} describes the tail"
            return Phase.HEAVY_TAILED, (misses, law)
        curved = tail.reason if straight else "no power law describes the tail either"
        if bulk.valid and outliers:
            return Phase.BULK_DECAY, (misses, curved, "what is left below the edge is a bulk")
        return Phase.UNCLASSIFIED, (misses, curved)
    if not bulk.valid:
        return Phase.UNCLASSIFIED, (bulk.reason, "too little lies above the edge for a heavy tail")
    fits = f"the bulk follows the law to {evidence['bulk_ks_distance']:.1%}"
    if outliers == 0:
        return Phase.RANDOM_LIKE, (f"no eigenvalue above {bulk.spike_threshold:.4g}", fits)
    if evidence["edge_ratio"] < cuts.random_ratio:
        return Phase.RANDOM_LIKE, (above, f"{largest}, no more than chance and tails give", fits)
    if evidence["edge_ratio"] < evidence["edge_ratio_cut"]:
        return Phase.BLEEDING_OUT, (above, f"{largest}, too near it for a spike")
    if evidence["outlier_share"] > cuts.outlier_share:
        share = f"that is {evidence['outlier_share']:.1%} of all"
        if not detached:
            return Phase.BULK_DECAY, (above, f"{share}, and they run on from the bulk", largest)
        return Phase.BULK_SPIKES, (above, apart, largest)
    return Phase.BULK_SPIKES, (above, largest)
