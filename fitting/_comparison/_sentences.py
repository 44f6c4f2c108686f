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
    controls = [name for name in controls if name in defined.index]
    sentences = [_control(control, defined, metrics) for control in controls]
    complete = metrics[metrics["num_models"] == table["num_models"].max()]
    if not complete.empty:
        best = str(complete["r2"].idxmax())
        sentences.append(f"Largest R^2 of a metric that every model has: {_strength(best, table)}.")
    if reference in metrics.index:
        rivals = [*controls, *(name for name in PLAIN_NORMS if name != reference)]
        present = [name for name in rivals if name in defined.index]
        sentences += [_against_reference(name, reference, defined) for name in present]
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


def _against_reference(name: str, reference: str, table: pd.DataFrame) -> str:
    p, r2 = table["p_equal_to_reference"][name], table["r2"][name]
    r2_reference = table["r2"][reference]
    if p < SIGNIFICANT:
        verdict = "does better than" if r2 > r2_reference else "does worse than"
    else:
        verdict = "cannot be told from"
    kind = "The plain norm " if name in PLAIN_NORMS else ""
    return (
        f"{kind}{name} {verdict} {reference}: R^2 {r2:.2f} against {r2_reference:.2f}, p {p:.2g}."
    )


def _beyond(control: str, metrics: pd.DataFrame) -> str:
    known = metrics[metrics[f"p_given_{control}"].notna()]
    found = []
    for name, row in known.to_dict("index").items():
        r, p = row[f"r_given_{control}"], row[f"p_given_{control}"]
        if p < SIGNIFICANT:
            wrong = ", of the wrong sign" if r * row["expected_sign"] < 0 else ""
            found.append(f"{name} (r {r:+.2f}, p {p:.2g}{wrong})")
    return (
        f"Beyond {control}, quality goes at p < {SIGNIFICANT} with "
        f"{', '.join(found) or 'no metric'}; of {len(known)} metrics "
        f"{len(known) * SIGNIFICANT:.1f} would do so by chance."
    )
