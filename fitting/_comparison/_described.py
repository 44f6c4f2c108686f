"""A comparison in a few lines, and in a notebook."""

from html import escape

import pandas as pd

from ._compared import Compared

MAX_LAYERS = 10


def describe_comparison(comparison: Compared) -> list[str]:
    """The lines that stand for it: what it is of, and what it found."""
    models = ", ".join(map(str, comparison.values.index))
    if comparison.layers is None:
        layers = "no matrix shared"
    else:
        number = len(comparison.layers)
        layers = f"{number} {'matrix' if number == 1 else 'matrices'} shared"
    lines = [f"Comparison of {len(comparison.values)} models: {models}", f"  {layers}"]
    if comparison.quality is not None:
        lines.append(
            f"  quality of {len(comparison.quality)} against {len(comparison.table)} metrics"
        )
    lines += [f"  {note}" for note in comparison.notes]
    return [*lines, "  values, table, layers, reading; plot(folder), to_html(path), save(path)"]


def comparison_html(comparison: Compared) -> str:
    """What a notebook shows: the values, the most changed matrices, and the sentences."""
    said = "".join(f"<li>{escape(text)}</li>" for text in (*comparison.notes, *comparison.reading))
    parts = [f"<ul>{said}</ul>" if said else "", _html(comparison.values.T)]
    if comparison.layers is not None:
        changes = pd.DataFrame(comparison.layers["spectrum_change"])
        order = changes.max(axis=1).sort_values(ascending=False).index[:MAX_LAYERS]
        heading = f"The most changed of {len(changes)} shared matrices"
        parts += [f"<p>{heading}</p>", _html(changes.loc[order])]
    return "<div>" + "".join(parts) + "</div>"


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(float_format="{:.4g}".format, border=0, na_rep=""))
