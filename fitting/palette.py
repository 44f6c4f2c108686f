"""The colours of every figure: one for one meaning, in figures, on pages and in the experiments."""

from typing import Any

# Okabe and Ito's colours, which stay apart for the colour-blind and on dark and light pages; the
# marker repeats what the colour says.
PHASES = {
    "RANDOM_LIKE": ("#56b4e9", "o"),
    "BLEEDING_OUT": ("#0072b2", "s"),
    "BULK_SPIKES": ("#009e73", "^"),
    "BULK_DECAY": ("#e69f00", "D"),
    "HEAVY_TAILED": ("#d55e00", "v"),
    "RANK_COLLAPSE": ("#cc79a7", "X"),
    "UNCLASSIFIED": ("#777777", "P"),
}
# The histogram of a spectrum, the law that is fitted to it, and its eigenvalues one by one.
BARS, LAW, DOTS = "#b9c4d0", "#c8102e", "#123a6b"
# Lines or points beside one another. Dark and light stay apart in greyscale; from there on only
# the colour and the marker tell them apart.
SERIES: tuple[dict[str, Any], ...] = (
    {"color": "#123a6b", "marker": "o", "linestyle": "-"},
    {"color": "#e8963a", "marker": "s", "linestyle": "--"},
    {"color": "#4f9d69", "marker": "D", "linestyle": "-."},
    {"color": "#c8102e", "marker": "^", "linestyle": "--"},
    {"color": "#8064a2", "marker": "v", "linestyle": ":"},
    {"color": "#7f7f7f", "marker": "P", "linestyle": ":"},
)
DARK, LIGHT = SERIES[:2]
# For matplotlib.rc_context.
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 140,
    "text.parse_math": False,  # layers may have any name
}
