"""The spectra of one model over training, and the ways to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._figures import plot_series
from ._measured import MeasuredSeries, load_measured, tabulate
from ._page import write_page
from ._sentences import remarks


@dataclass(frozen=True, eq=False, repr=False)
class Series(MeasuredSeries):
    """The spectra of a model's checkpoints, one after the other.

    Attributes:
        layers: One row a matrix and step: ``step``, and the columns of ``Report.layers``.
        tails: Alpha at each step with tails of fixed size, a column for each share of the
            eigenvalues; what the trends of alpha are of.
        skipped: One row a tensor left out: ``step``, ``name``, ``shape``, ``reason``.
        conv: What a convolution was measured as.
    """

    def __repr__(self) -> str:
        count = sum(1 for _ in self.matrices())
        steps = self.steps
        return (
            f"Series of {count} matrices at {len(steps)} checkpoints, steps {steps[0]} to "
            f"{steps[-1]}"
        )

    @property
    def reading(self) -> list[str]:
        """What changed, what did not, and what is not to be read, in words."""
        return [remark.text for remark in remarks(self, self.trends())]

    def to_html(self, path: str | Path, *, title: str = "Spectra over training") -> Path:
        """Writes one self-contained page, whole or not at all.

        Words, a map of the phases over matrices and steps, and a table to sort by any change, with
        a curve of alpha for each matrix. It loads nothing and runs no script but its own.

        Args:
            path: The file to write.
            title: Heading of the page.

        Returns:
            The path.

        Raises:
            OSError: If the file cannot be written.
        """
        return write_page(self, path, title=title)

    def plot(self, folder: str | Path) -> list[Path]:
        """Draws the phases over training, and alpha and stable rank of each matrix, as PNG files.

        Args:
            folder: Where to write ``phases.png`` and ``alpha_001.png`` and on; made if it is not
                there.

        Returns:
            The paths written.
        """
        return plot_series(self, folder)


def make_series(
    rows: Sequence[dict[str, Any]],
    tails: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, Any]],
    *,
    conv: str,
) -> Series:
    """A series of rows that have a step beside the columns of a report."""
    return Series(**vars(tabulate(rows, tails, skipped, conv=conv)))


def load_series(path: str | Path) -> Series:
    """Reads a series that :meth:`Series.save` wrote, such as the ``series.json`` of a folder.

    Args:
        path: The JSON file.

    Returns:
        The :class:`Series`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a series.

    Example:
        >>> import tempfile, numpy as np, fitting
        >>> W = np.random.default_rng(0).normal(size=(80, 60))
        >>> run = {step: {"fc": {"kernel": (1 + step) * W}} for step in (0, 10)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fitting.follow(run, progress=False).save(f"{folder}/series.json")
        ...     fitting.load_series(path)
        Series of 1 matrices at 2 checkpoints, steps 0 to 10
    """
    return Series(**vars(load_measured(Path(path))))
