"""What the statistics of a comparison say, in plain sentences."""

from collections.abc import Sequence

import pandas as pd

SIGNIFICANT = 0.05
# Rank correlation from which on a control orders the models nearly as well as anything could.
STRONG_TAU = 0.8
PLAIN_NORMS = ("mean_log_frobenius_norm", "mean_log_spectral_norm")


def read_comparison(table: pd.DataFrame, controls: Sequence[str], reference: str) -> list[str]:
    """Sentences on depth and size, on plain norms, on signs, and on what is left beyond depth."""
    defined = table[table["r2"].notna()]
    metrics = defined.drop(index=[name for name in controls if name in defined.index])
    sentences = [
        _control(control, defined, metrics) for control in controls if control in defined.index
    ]
    if not metrics.empty:
        best = str(metrics["r2"].idxmax())
        sentences.append(f"Largest R^2 of a metric: {_strength(best, defined)}.")
    if reference in metrics.index:
        norms = [name for name in PLAIN_NORMS if name in metrics.index and name != reference]
        sentences += [_against_reference(name, reference, metrics) for name in norms]
    wrong = metrics[(metrics["expected_sign"] < 0) & (metrics["tau"] > 0)].index
    if len(wrong):
        sentences.append(f"Of the wrong sign, rising with quality: {_list(wrong)}.")
    unclaimed = metrics[metrics["expected_sign"] == 0].index
    if len(unclaimed):
        sentences.append(
            f"No direction across models is claimed for {_list(unclaimed)}: training lowers alpha "
            "and the ranks within one network, but they rise with accuracy in the published VGG "
            "series."
        )
    return sentences + [_beyond(control, metrics) for control in controls]


def _list(names: pd.Index) -> str:
    return ", ".join(map(str, names))


def _strength(name: str, table: pd.DataFrame) -> str:
    r2, tau, p = (table[column][name] for column in ("r2", "tau", "tau_p"))
    return f"{name} (R^2 {r2:.2f}, tau {tau:+.2f}, p {p:.2g})"


def _control(control: str, table: pd.DataFrame, metrics: pd.DataFrame) -> str:
    better = int((metrics["r2"] > table["r2"][control]).sum())
    confounded = abs(table["tau"][control]) >= STRONG_TAU
    warning = " The models lie nearly in this order: whatever merely follows it does as well."
    return (
        f"{_strength(control, table)} alone: {better} of {len(metrics)} metrics have a larger R^2."
        f"{warning if confounded else ''}"
    )


def _against_reference(name: str, reference: str, metrics: pd.DataFrame) -> str:
    p, r2 = metrics["p_equal_to_reference"][name], metrics["r2"][name]
    r2_reference = metrics["r2"][reference]
    if p < SIGNIFICANT:
        verdict = "does better than" if r2 > r2_reference else "does worse than"
    else:
        verdict = "cannot be told from"
    return (
        f"The plain norm {name} {verdict} {reference}: R^2 {r2:.2f} against "
        f"{r2_reference:.2f}, p {p:.2g}."
    )


def _beyond(control: str, metrics: pd.DataFrame) -> str:
    p_values = metrics[f"p_given_{control}"].dropna()
    found = ", ".join(
        f"{name} (p {p:.2g})" for name, p in p_values.to_dict().items() if p < SIGNIFICANT
    )
    return (
        f"Beyond {control}, quality goes at p < {SIGNIFICANT} with {found or 'no metric'}; of "
        f"{len(p_values)} metrics {len(p_values) * SIGNIFICANT:.1f} would do so by chance."
    )
