"""A series in plain language: what changed, what did not, and what is not to be read."""

from collections import Counter

import pandas as pd

from .._reports import Remark
from ._measured import MeasuredSeries

# One in twenty of what is called a change is none; and a tail that chance would so seldom make.
SIGNIFICANT = 0.05
WORDS = {
    "alpha": ("Alpha", "the exponent of the tail"),
    "stable_rank": ("Stable rank", "over how many directions the weight is spread"),
    "spectral_norm": ("Spectral norm", "the largest singular value"),
    "matrix_entropy": ("Entropy", "how even the spectrum is"),
}


def remarks(series: MeasuredSeries, trends: pd.DataFrame) -> list[Remark]:
    """What the numbers say, the changes first."""
    steps = series.steps
    found = [_changes(trends[trends["quantity"] == quantity], quantity) for quantity in WORDS]
    found += [_phases(series), _no_tails(series), _frozen(series), _partly(series)]
    remarks = [remark for remark in found if remark is not None]
    if len(steps) < 4:
        text = f"{len(steps)} checkpoints: trends need 4, and their errors more."
        remarks.append(Remark("Few checkpoints", text))
    text = (
        "A change is along a straight line over the checkpoints in their order, and counts where "
        f"it stands out of the scatter from one to the next, corrected for {_matrices(series)} "
        "matrices (q of 0.05 or less). A weight that wanders without aim changes in this sense "
        "too. Alpha is that of a tail of one size at all steps."
    )
    return [*remarks, Remark("How to read this", text)]


def label(name: str, index: str) -> str:
    """What a matrix is called."""
    return name.removesuffix("/kernel") + (f"[{index}]" if index else "")


def _labels(table: pd.DataFrame) -> tuple[str, ...]:
    return tuple(
        label(name, index) for name, index in zip(table["name"], table["index"], strict=True)
    )


def _matrices(series: MeasuredSeries) -> int:
    return len(series.layers[["name", "index"]].drop_duplicates())


def _changes(trends: pd.DataFrame, quantity: str) -> Remark | None:
    heading, meaning = WORDS[quantity]
    tested = trends[trends["q_value"].notna()]
    if not len(tested):
        return None
    clear = tested[tested["q_value"] <= SIGNIFICANT]
    falls, rises = int((clear["change"] < 0).sum()), int((clear["change"] > 0).sum())
    text = (
        f"{heading}, {meaning}, falls in {falls} and rises in {rises} of {len(tested)} matrices "
        "beyond the scatter between checkpoints"
    )
    if len(clear):
        largest = clear.iloc[int((clear["change"] / clear["first"]).abs().argmax())]
        text += (
            f"; the most in {label(largest['name'], largest['index'])}, from "
            f"{largest['first']:.3g} to {largest['last']:.3g}"
        )
    order = (clear["change"] / clear["first"]).abs().sort_values(ascending=False).index
    return Remark(heading, f"{text}.", _labels(clear.loc[order]))


def _phases(series: MeasuredSeries) -> Remark | None:
    ways: dict[tuple[str, str], list[str]] = {}
    for (name, index), table in series.matrices():
        phases = table["phase"].dropna()
        if len(phases) > 1 and phases.iloc[0] != phases.iloc[-1]:
            way = (phases.iloc[0], phases.iloc[-1])
            ways.setdefault(way, []).append(label(name, index))
    if not ways:
        return Remark("Phases", "No matrix ends in another phase than it began in.")
    ordered = sorted(ways.items(), key=lambda item: -len(item[1]))
    text = "; ".join(f"{len(names)} from {a} to {b}" for (a, b), names in ordered)
    return Remark("Phases", f"{text}.", tuple(name for _, names in ordered for name in names))


def _no_tails(series: MeasuredSeries) -> Remark | None:
    """Matrices whose first alphas fit no tail, though there is one later."""
    early = {}
    for (name, index), table in series.matrices():
        fits = (table["p_value"] >= SIGNIFICANT).to_numpy()
        tested = table["p_value"].notna().to_numpy()
        if not tested.any() or not tested[0] or fits[0]:
            continue
        until = int(fits.argmax()) if fits.any() else len(table)
        early[label(name, index)] = (until, float(table["alpha"].iloc[:until].max()))
    if not early:
        return None
    highest = max(early, key=lambda name: early[name][1])
    until, alpha = early[highest]
    text = (
        f"The first alphas of {len(early)} matrices fit no tail, p < {SIGNIFICANT:.2g}: do not "
        f"read {alpha:.3g} in {highest} as a power law"
    )
    count = len(series.steps)
    if until < count:
        text += f"; there the first that may be one is at checkpoint {until + 1} of {count}"
    return Remark("Alpha without a tail", f"{text}.", tuple(early))


def _frozen(series: MeasuredSeries) -> Remark | None:
    numbers = ["spectral_norm", "frobenius_norm", "stable_rank", "matrix_entropy"]
    frozen = [
        label(name, index)
        for (name, index), table in series.matrices()
        if len(table) > 1
        and table[numbers].notna().all().all()
        and (table[numbers].nunique() == 1).all()
    ]
    if not frozen:
        return None
    text = f"{len(frozen)} matrices are the same at every checkpoint: frozen, or not reached."
    return Remark("Unchanged", text, tuple(frozen))


def _partly(series: MeasuredSeries) -> Remark | None:
    counts = Counter(zip(series.layers["name"], series.layers["index"], strict=True))
    steps = len(series.steps)
    missing = [label(name, index) for (name, index), count in counts.items() if count < steps]
    if not missing:
        return None
    text = f"{len(missing)} matrices are not in every one of the {steps} checkpoints."
    return Remark("Not always there", text, tuple(missing))
