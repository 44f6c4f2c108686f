"""Which warns first that a run will fail, what is watched of its spectra or its loss?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# So many chunks in a row outside of what runs that live have shown: one is chance.
IN_A_ROW = 3


class Warnings(NamedTuple):
    """Of one signal, over many runs.

    Attributes:
        first: Chunk of the first warning of each run that fails; the number of chunks if never.
        missed: Share of failing runs without a warning.
        false_alarms: Share of living runs with one.
    """

    first: np.ndarray
    missed: float
    false_alarms: float


def warnings_of(
    signal: np.ndarray, alive: np.ndarray, known: np.ndarray, known_alive: np.ndarray
) -> Warnings:
    """Warnings where a signal is worse than the worst of the runs that lived before.

    Args:
        signal: Higher is worse; `[num_runs, num_chunks]`.
        alive: Which of these runs live in the end, `[num_runs]`.
        known: The same of earlier runs, from which the bound of every chunk is taken.
        known_alive: Which of those lived.

    Raises:
        ValueError: If no earlier run lived.
    """
    if not known_alive.any():
        raise ValueError("no earlier run lived; expected one at least, to know how those look")
    # NaN is beyond any bound.
    beyond = ~(signal <= known[known_alive].max(0))
    num_chunks = beyond.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(beyond, IN_A_ROW, axis=1)
    rows = np.all(windows, axis=-1)
    first = np.where(np.any(rows, axis=1), np.argmax(rows, axis=1) + IN_A_ROW - 1, num_chunks)
    warned = first < num_chunks
    return Warnings(
        first[~alive],
        float(1 - warned[~alive].mean()) if (~alive).any() else float("nan"),
        float(warned[alive].mean()) if alive.any() else float("nan"),
    )


def lines(
    known: Mapping[str, np.ndarray],
    known_alive: np.ndarray,
    fresh: Mapping[str, np.ndarray],
    alive: np.ndarray,
    chunk: int,
) -> list[str]:
    """What to say of each signal, the loss and those of the spectra, in a table's rows.

    Args:
        known: Signal's name to values of earlier runs, higher is worse.
        known_alive: Which of them lived.
        fresh: The same of the runs that are judged.
        alive: Which of these live.
        chunk: Steps of a chunk.
    """
    table = [
        "| signal | step of its warning (median) | missed | false alarms |",
        "|---|---|---|---|",
    ]
    for name, values in fresh.items():
        found = warnings_of(values, alive, known[name], known_alive)
        # What is read in a chunk is known at its end.
        step = f"{chunk * (np.median(found.first) + 1):.0f}"
        table.append(f"| {name} | {step} | {found.missed:.0%} | {found.false_alarms:.0%} |")
    return table
