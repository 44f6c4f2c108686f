"""What an evaluation found, and the ways to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._described import describe_report, report_html
from ._figures import plot_report
from ._measurements import Measurements, Row, Spectra, load_measurements, tabulate
from ._page import write_html
from ._weightwatcher import weightwatcher_table


@dataclass(frozen=True, eq=False, repr=False)
class Report(Measurements):
    """The spectra of a model, measured.

    Attributes:
        layers: One row a matrix, in natural logarithms; docs/conventions.md explains each column.
            Rows that could not be fitted have ``valid=False`` and a ``reason``.
        skipped: One row a tensor left out: ``name``, ``shape``, ``reason``.
        spectra: The eigenvalues of each row, by its ``name`` and ``index``.
        conv: What a convolution was measured as: "slices", "pooled", "flatten", or the operator
            that :func:`evaluate` was given.
        num_values: How many values the measured weights have.

    Two are equal if they would be saved alike.
    """

    def __repr__(self) -> str:
        return "\n".join(describe_report(self))

    def _repr_html_(self) -> str:
        return report_html(self)

    def spectrum(self, name: str, index: str = "") -> NDArray[np.float64]:
        """The eigenvalues of one matrix.

        Args:
            name: Of its weight, as in ``layers``.
            index: Its place in it, as in ``layers``; empty where the weight is one matrix.

        Returns:
            ``[M]``, descending, not divided by N.

        Raises:
            KeyError: If there is no such matrix; it says what there is.

        Example:
            >>> import numpy as np, fitting
            >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
            >>> fitting.evaluate(params, progress=False).spectrum("fc/kernel").shape
            (60,)
        """
        if (name, index) not in self.spectra:
            indices = [i for n, i in self.spectra if n == name]
            names = list(dict.fromkeys(n for n, _ in self.spectra))
            came, known = ("index", indices) if indices else ("name", names)
            value = index if indices else name
            raise KeyError(f"{came} is {value!r}; expected one of {', '.join(map(repr, known))}")
        return self.spectra[name, index]

    def to_weightwatcher(self, *, pool: bool = True) -> pd.DataFrame:
        """The table that WeightWatcher 0.7.7 prints of the same model, column by column.

        log10 for the columns with ``log`` in their names and ``alpha_weighted``, ``norm`` and
        ``spectral_norm`` squared, the eigenvalues of a convolution scaled by 1/2 (pooled) or by
        half its number of slices. alpha, xmin, D and sigma are those of WeightWatcher's own fit:
        eigenvalues above 1e-5 alone; below 20 of them a bias-corrected alpha with a tail of 8 or
        more. Two things it does are not repeated here: where it has no fit, alpha and what follows
        from it are NaN with ``status`` "failed" (its -1 goes into its means), and rows that it
        leaves out silently (fewer than 8 eigenvalues) are here, as "failed". Weights that it takes
        whole and this report in parts have a row a part. ``layer_id`` counts the layers of this
        report from 0; WeightWatcher's also counts the norm layers that it does not list, and starts
        elsewhere for each framework.

        Args:
            pool: True, as its default, for one row a convolution, with the eigenvalues of all
                slices; False for a row a slice.

        Returns:
            The table, missing values NaN or NA. ``sv_min`` (the largest of the slices' smallest)
            and ``rank_loss`` are missing where only pooled eigenvalues are known: evaluate with
            ``conv="slices"``.

        Raises:
            ValueError: If the report is of flattened convolutions, which WeightWatcher does not
                have, or if slices are asked for and the report has them pooled.

        Example:
            >>> import numpy as np, fitting
            >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
            >>> table = fitting.evaluate(params, progress=False).to_weightwatcher()
            >>> table.loc[0, ["longname", "layer_type", "status"]].tolist()
            ['fc', 'dense', 'success']
        """
        return weightwatcher_table(self, pool=pool)

    def plot(
        self,
        folder: str | Path | None = None,
        *,
        layers: Sequence[str] | None = None,
        progress: bool = True,
    ) -> list[Any]:
        """Draws every spectrum with its fits, and alpha over the whole model.

        ``spectra_001.png`` and on, ten matrices a page, hold for each matrix the share of
        eigenvalues at or above each on log-log axes, with the power law from xmin on, and their
        histogram on linear axes, with the Marchenko-Pastur law, its edge and the spikes past it.
        ``alpha_by_depth.png`` has alpha over the layers in the report's order with the phase as
        colour and marker, ``alpha_histogram.png`` is the first paper's Figure 1.

        Args:
            folder: Where to write PNG files; made if it does not exist. None writes nothing.
            layers: Paths, or shell patterns, of the layers whose spectra to draw, as for
                :func:`evaluate`; None draws all.
            progress: Show a progress bar with an estimate on standard error.

        Returns:
            The paths written; without a folder, the Matplotlib figures, in the same order.

        Raises:
            ValueError: If a pattern matches no layer.
            OSError: If the folder cannot be written.

        Example:
            >>> import tempfile, numpy as np, fitting
            >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     paths = fitting.evaluate(params, progress=False).plot(folder, progress=False)
            >>> [path.name for path in paths]
            ['alpha_by_depth.png', 'alpha_histogram.png', 'spectra_001.png']
        """
        return plot_report(self, folder, layers=layers, progress=progress)

    def to_html(
        self, path: str | Path, *, title: str = "Spectra of a model", progress: bool = False
    ) -> Path:
        """Writes one self-contained page, whole or not at all.

        At the top what the theory says in plain language, with its doubts; then the phases, alpha
        over the model, and a table to sort and filter with the spectrum of every matrix. The page
        loads nothing from elsewhere and runs no script but its own, whatever layers are called.

        Args:
            path: The file to write.
            title: Heading of the page, such as the model's name.
            progress: Show a progress bar with an estimate on standard error.

        Returns:
            The path.

        Raises:
            OSError: If the file cannot be written.

        Example:
            >>> import tempfile, numpy as np, fitting
            >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = fitting.evaluate(params, progress=False).to_html(f"{folder}/report.html")
            ...     "No trace of training" in path.read_text(encoding="utf-8")
            True
        """
        return write_html(self, path, title=title, progress=progress)


def make_report(
    rows: list[Row], skipped: list[Row], spectra: Spectra, *, conv: str, num_values: int
) -> Report:
    """A report of rows, with a column for all that can be measured."""
    return Report(**vars(tabulate(rows, skipped, spectra, conv=conv, num_values=num_values)))


def load_report(path: str | Path) -> Report:
    """Reads a report that :meth:`Report.save` wrote.

    Args:
        path: The JSON file.

    Returns:
        The :class:`Report`, equal to the one that was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a report.

    Example:
        >>> import tempfile, numpy as np, fitting
        >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(80, 60))}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fitting.evaluate(params, progress=False).save(f"{folder}/report.json")
        ...     fitting.load_report(path).summary["num_matrices"]
        1
    """
    return Report(**vars(load_measurements(Path(path))))
