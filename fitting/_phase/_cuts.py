"""The cuts between the phases."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhaseCuts:
    """Where one phase ends and the next begins; each lies between measured families.

    Attributes:
        min_eigenvalues: With fewer eigenvalues than this no phase is named.
        zero_share: Share of zero eigenvalues that makes a rank collapse. Those below a millionth of
            the largest count as zero unless a power law describes the tail.
        collapse_gap: Gap between the bulk and everything above it, in widths of the bulk, beyond
            which the rank has collapsed without exact zeros, given ``collapse_share``.
        collapse_share: Share of the squared norm that has to lie above that gap, or above a cliff.
        cliff: A fall from one eigenvalue to the next beyond which the rank has collapsed whatever
            lies below, as a strong weight decay leaves no bulk: minus the logarithm of the chance
            that a power law falls so far. It counts where nine tenths of the spectrum lie below a
            hundredth of the largest eigenvalue.
        law_deviation: Kolmogorov-Smirnov distance of the tail from its power law, times the root of
            its size, up to which it is one that was asked for: noise, spikes, decays and samples of
            a power law all lie further from theirs,
        law_share: if the tail has at least this share of the eigenvalues, and 16 of them.
        unexplained: Share of the eigenvalues that the Marchenko-Pastur law leaves unexplained
            (those above its edge, and of the rest its Kolmogorov-Smirnov distance) where the rest
            no longer passes for a bulk with something added.
        tail_distance: Kolmogorov-Smirnov distance up to which a tail counts as a power law; in a
            tail of k eigenvalues up to 1.35 / sqrt(k), which chance alone may give.
        detached: Gap between the bulk and everything above it, in widths of the bulk, beyond which
            the eigenvalues above are spikes, however many; four Tracy-Widom widths are added.
        random_ratio: lambda_max / lambda_plus up to which an eigenvalue above the edge is still
            random-like: heavy-tailed but independent entries push it this far.
        edge_ratio: lambda_max / lambda_plus below which the bulk bleeds, plus six Tracy-Widom
            widths for the scatter of a small matrix.
        outlier_share: Share of the eigenvalues above the edge at which spikes become a decay.
    """

    min_eigenvalues: int = 50
    zero_share: float = 0.1
    collapse_gap: float = 10.0
    collapse_share: float = 0.7
    cliff: float = 10.0
    law_deviation: float = 0.25
    law_share: float = 0.08
    unexplained: float = 0.2
    tail_distance: float = 0.1
    detached: float = 0.2
    random_ratio: float = 1.04
    edge_ratio: float = 1.25
    outlier_share: float = 0.065
