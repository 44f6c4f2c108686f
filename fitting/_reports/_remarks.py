"""A report in plain language: what the theory says of this model, and how sure that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from ._measurements import Measurements

MEANINGS = {
    "HEAVY_TAILED": "no bulk of noise is left and a power law describes the spectrum: correlations "
    "at every scale, which the theory takes for the mark of a well-trained layer.",
    "BULK_DECAY": "many eigenvalues run on from the edge of a bulk of noise: strong correlations, "
    "on the way to a heavy tail.",
    "BULK_SPIKES": "a bulk of noise and some eigenvalues clear of it: a few strong directions were "
    "learned, the rest looks random.",
    "BLEEDING_OUT": "noise with a few eigenvalues just past its edge: weak correlations.",
    "RANDOM_LIKE": "not to be told from a random matrix: training left no trace in the spectrum, "
    "or one too weak to stand out. An alpha fitted here says nothing.",
    "RANK_COLLAPSE": "most directions carry almost nothing: pruned, or regularized too hard.",
    "UNCLASSIFIED": "the evidence does not decide: fewer than 50 eigenvalues, matrices of "
    "different scales pooled, or neither law holds. Nothing is said of these.",
}
STRUCTURED = ("HEAVY_TAILED", "BULK_DECAY")
SMALL_TAIL = 50


class Remark(NamedTuple):
    """A heading, a sentence or two, and the layers that it is about."""

    heading: str
    text: str
    layers: tuple[str, ...] = ()


def verdicts(report: Measurements) -> list[Remark]:
    """What the theory says of the matrices, the best trained first."""
    layers = report.layers
    valid, alpha, phase = layers["valid"], layers["alpha"], layers["phase"]
    structured = phase.isin(STRUCTURED)
    noise = phase == "RANDOM_LIKE"
    groups = (
        (
            "Signs of good training",
            structured & valid & alpha.between(2, 6),
            "{} a heavy tail or a decaying bulk, with alpha between 2 and 6: what the theory "
            "expects of well-trained layers.",
        ),
        (
            "Very heavy tails",
            structured & valid & (alpha < 2),
            "{} alpha below 2. The authors read this as over-regularized or over-fitted; a few "
            "dominant directions or an outsized entry also give it. Worth a look.",
        ),
        (
            "Some structure in noise",
            phase.isin(["BULK_SPIKES", "BLEEDING_OUT"]),
            "{} mostly a noise spectrum with eigenvalues past its edge: something was learned, "
            "less than the theory finds in its best layers.",
        ),
        (
            "No trace of training",
            noise,
            "{} the spectrum of a random matrix. Untrained, barely trained, or trained without the "
            "spectrum showing it.",
        ),
        (
            "Collapsed rank",
            phase == "RANK_COLLAPSE",
            "{} most of the directions near zero: pruned, or regularized too hard.",
        ),
        (
            "Structure without a clear power law",
            structured & ~(valid & (alpha <= 6)),
            "{} a spectrum unlike noise, but no power law with alpha up to 6 to describe it.",
        ),
        (
            "Undecided",
            phase == "UNCLASSIFIED",
            "{} too little evidence for a phase: fewer than 50 eigenvalues, matrices of "
            "different scales pooled, or neither law holds. Whether they are well trained cannot "
            "be told from their spectrum, whatever alpha is printed.",
        ),
    )
    return [
        Remark(heading, text.format(_have(int(chosen.sum()))), _names(layers[chosen]))
        for heading, chosen, text in groups
        if chosen.any()
    ]


def caveats(report: Measurements) -> list[Remark]:
    """What must be known to read the numbers right."""
    layers = report.layers
    fitted = layers[layers["valid"]]
    remarks = [
        Remark(
            "How sure this is",
            "The theory is empirical: it describes patterns seen in trained networks and proves "
            "nothing of a single layer. A spectrum does not say where it comes from; scales that "
            "differ between rows or columns, or a few outsized entries, mimic training.",
        ),
        Remark(
            "Comparing",
            "A smaller mean alpha is not better between models of different depth: in the "
            "published VGG series it rises with accuracy, and the stable rank and the "
            "MP soft rank mislead there too. Alpha also depends on a matrix's shape. Compare "
            "layers of one shape, or models of one architecture.",
        ),
    ]
    remarks += _of_change(layers) + _of_quantization(layers)
    if small := int((fitted["num_tail"] < SMALL_TAIL).sum()):
        remarks.append(
            Remark(
                "Short tails",
                f"{small} of {len(fitted)} power laws rest on fewer than {SMALL_TAIL} eigenvalues: "
                "read their alpha with its ± (one standard error) and no digit further.",
            )
        )
    unproven = fitted["phase"].isin(["RANDOM_LIKE", "UNCLASSIFIED", "BLEEDING_OUT"])
    if unproven.any():
        remarks.append(
            Remark(
                "Alpha without a tail",
                f"{int(unproven.sum())} of {len(fitted)} alphas belong to matrices that look like "
                "noise, or of which too little is known. Small, square random matrices often give "
                "alpha between 2 and 6 (64 x 64: four in five), so go by the phase.",
            )
        )
    tested = fitted["p_value"].dropna()
    if not len(tested):
        text = "Whether a power law describes these tails was not tested; num_bootstrap does it."
        remarks += [Remark("Goodness of fit", text)] if len(fitted) else []
    else:
        text = (
            f"Of {len(tested)} power laws tested, {int((tested <= 0.1).sum())} have p of 0.1 or "
            "less: by Clauset, Shalizi and Newman's rule a power law is ruled out there."
        )
        remarks.append(Remark("Goodness of fit", text))
    # Of reports that compared distributions.
    best = fitted.get("best_distribution", pd.Series(dtype=object)).dropna()
    if others := Counter(best[best != "power_law"]):
        named = ", ".join(f"{name} ({count})" for name, count in others.most_common())
        text = (
            f"Of {len(best)} tails another distribution describes {others.total()} better: "
            f"{named}. Their alpha is that of a power law all the same."
        )
        remarks.append(Remark("Other distributions", text.replace("_", " ")))
    return remarks


def _of_change(layers: pd.DataFrame) -> list[Remark]:
    changed = layers[layers["change_share"].notna()]
    if not len(changed):
        return []
    clear = int((changed["change_overlap"] > 3 * changed["change_overlap_by_chance"]).sum())
    text = (
        f"These are {len(changed)} changes from a base, not weights, of "
        f"{changed['change_share'].min():.2g} to {changed['change_share'].max():.2g} times the "
        f"base's norm. {clear} lie in the base's ten "
        "largest directions more than three times as far as chance would have it."
    )
    return [Remark("Changes", text)]


def _of_quantization(layers: pd.DataFrame) -> list[Remark]:
    noisy = layers[layers["noise_edge"].notna()]
    if not len(noisy):
        return []
    formats = ", ".join(sorted(set(noisy["quantization"])))
    shares = noisy["noise_edge"] / noisy["lambda_max"]
    text = (
        f"{len(noisy)} matrices are quantized ({formats}). Rounding adds noise whose eigenvalues "
        f"end at {shares.min():.2g} to {shares.max():.2g} of the largest; no tail is fitted below."
    )
    return [Remark("Quantized weights", text)]


def left_out(report: Measurements) -> list[Remark]:
    """What has no fit or was not measured, and why."""
    unfitted = report.layers[~report.layers["valid"]]
    remarks = []
    if len(unfitted):
        reasons = "; ".join(f"{text} ({count})" for text, count in fold(unfitted["reason"]))
        text = f"{len(unfitted)} of {len(report.layers)} matrices have no power-law fit. {reasons}."
        remarks.append(Remark("Not fitted", text))
    if len(report.skipped):
        reasons = "; ".join(f"{text} ({count})" for text, count in fold(report.skipped["reason"]))
        text = f"{len(report.skipped)} tensors of the file were not measured. {reasons}."
        remarks.append(Remark("Not measured", f"{not_measured(report)} {text}".strip()))
    if whole := fused_whole(report):
        remarks.append(Remark("Several in one", whole))
    return remarks


def not_measured(report: Measurements) -> str:
    """Which share of the values in matrices is not in the report; empty if all are."""
    summary = report.summary
    share, names = summary["share_left_out"], summary["largest_left_out"]
    if not names:
        return ""
    percent = f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
    return (
        f"{percent} of the values in tensors of two or more axes were not measured; the largest: "
        f"{', '.join(names)}."
    )


def fused_whole(report: Measurements) -> str:
    """What would cut the weights that hold several matrices; empty where none is whole."""
    fused = report.layers[report.layers["kind"].str.startswith("fused", na=False)]
    if fused.empty:
        return ""
    number = fused["name"].nunique()
    each = "1 weight holds" if number == 1 else f"{number} weights hold"
    kinds = ", ".join(dict.fromkeys(fused["kind"]))
    return (
        f"{each} several matrices that names and shapes do not tell apart ({kinds}), measured "
        "whole. The model's configuration would: config.json beside the weights, with its "
        "model_type and numbers of heads, or the live model."
    )


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def fold(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons and their counts, one for those that differ in their numbers alone: as ranges."""
    alike: dict[str, list[list[str]]] = {}
    for reason in reasons:
        alike.setdefault(NUMBER.sub("\0", reason), []).append(NUMBER.findall(reason))
    folded = []
    for text, numbers in alike.items():
        for column in zip(*numbers, strict=True):
            low, high = min(column, key=float), max(column, key=float)
            text = text.replace("\0", low if low == high else f"{low} to {high}", 1)
        folded.append((text, len(numbers)))
    return sorted(folded, key=lambda item: -item[1])


def _names(rows: pd.DataFrame) -> tuple[str, ...]:
    """Layers, and how many of their matrices where they have several."""
    counts = Counter(rows["name"])
    return tuple(
        name.removesuffix("/kernel") + (f" ({count})" if count > 1 else "")
        for name, count in counts.items()
    )


def _have(count: int) -> str:
    return "1 matrix has" if count == 1 else f"{count} matrices have"


def phase_counts(phases: Iterable[Any]) -> list[tuple[str, int]]:
    """Phases that occur and how often, the most structured first."""
    counts = Counter(phase for phase in phases if isinstance(phase, str))
    return [(phase, counts[phase]) for phase in MEANINGS if counts[phase]]
