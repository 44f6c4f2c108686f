"""What an evaluation found: one row a matrix, what was left out, and the model as a whole."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .._checkpoints import INDEX
from .._json_values import records
from .._whole_file import written_whole
from ._columns import layers_table
from ._figures import plot_report
from ._page._html import write_html
from ._summary import summarize
from ._weightwatcher import weightwatcher_table

FORMAT = 3

Spectra = dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Report:
    """The spectra of a model, measured.

    Attributes:
        layers: One row a matrix, in natural logarithms; docs/conventions.md explains each column.
            Rows that could not be fitted have ``valid=False`` and a ``reason``.
        skipped: One row a tensor left out: ``name``, ``shape``, ``reason``.
        spectra: The eigenvalues of each row, by its ``name`` and ``index``.
        conv: What a convolution was measured as: "slices", "pooled", "flatten", or what else
            :func:`evaluate` was asked for.
    """

    layers: pd.DataFrame
    skipped: pd.DataFrame
    spectra: Spectra
    conv: str

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, means and sums, in natural logarithms but where said; NaN over no rows.

        Which matrices a number is over, and under which name they are counted:

        ========================================  ================================================
        ``num_valid``                             power-law fits: ``mean_alpha``,
                                                  ``mean_alpha_hat``, ``sum_alpha_hat``
        ``num_measured``                          weights finite and not all zero, whether or not a
                                                  power law fits: every mean and sum of norms,
                                                  stable ranks and entropy
        ``num_marchenko_pastur``                  a Marchenko-Pastur edge: ``mean_mp_soft_rank``
        ========================================  ================================================

        ``mean_log_stable_rank_ratio`` is erratic: the ratio has a pole at lambda_max = 1.

        The first paper's: ``sum_alpha_hat`` is its Eq. 3, over layers and, in a convolution, over
        the slices; ``layer_mean_log_spectral_norm`` and ``layer_mean_log_frobenius_norm`` are its
        Eq. 5, the mean over layers of the sum over a layer's slices. The published tables': means
        over all slices, in **log10**: ``published_alpha_hat``, ``published_log_frobenius_norm``,
        ``published_log_lambda_max`` (printed there as the spectral norm) and
        ``published_log_alpha_norm``, of log10 sum l^alpha; those tables left out matrices with
        fewer than 50 rows or columns, which this does not.
        """
        return summarize(self)

    def to_weightwatcher(self, *, pool: bool = True) -> pd.DataFrame:
        """The table that WeightWatcher 0.7.7 prints of the same model, column by column.

        log10 for the columns with ``log`` in their names and ``alpha_weighted``, ``norm`` and
        ``spectral_norm`` squared, the eigenvalues of a convolution scaled by 1/2 (pooled) or by
        half its number of slices. alpha, xmin, D and sigma are those of WeightWatcher's own fit:
        eigenvalues above 1e-5 alone; below 20 of them a bias-corrected alpha with a tail of 8 or
        more. What it would do otherwise is kept out: where it has no fit, alpha and what follows
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
        folder: str | Path,
        *,
        layers: Sequence[str] | None = None,
        progress: bool = True,
    ) -> list[Path]:
        """Draws every spectrum with its fits, and alpha over the whole model, as PNG files.

        ``spectra_001.png`` and on, ten matrices a page, hold for each matrix the share of
        eigenvalues at or above each on log-log axes, with the power law from xmin on, and their
        histogram on linear axes, with the Marchenko-Pastur law, its edge and the spikes past it.
        ``alpha_by_depth.png`` has alpha over the layers in the report's order with the phase as
        colour and marker, ``alpha_histogram.png`` is the first paper's Figure 1.

        Args:
            folder: Where to write; made if it does not exist.
            layers: Shell patterns of the layers whose spectra to draw, such as ``"layer3/*"``; None
                draws all.
            progress: Show a progress bar with an estimate on standard error.

        Returns:
            The paths written.

        Raises:
            ValueError: If no layer matches.
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

    def save(self, path: str | Path) -> Path:
        """Writes the report as JSON: whole or not at all. See :func:`load_report`."""
        path = Path(path)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1))
        return path

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists and dicts, None where a value is missing.

        Spectra are base64 of little-endian float64, in the order of the layers.
        """
        keys = zip(self.layers["name"], self.layers["index"], strict=True)
        return {
            "format": FORMAT,
            "conv": self.conv,
            "summary": {name: None if x != x else x for name, x in self.summary.items()},
            "layers": records(self.layers),
            "skipped": records(self.skipped),
            "spectra": [
                base64.b64encode(self.spectra[key].astype("<f8").tobytes()).decode() for key in keys
            ],
        }


def make_report(
    rows: list[dict[str, Any]],
    skipped: list[dict[str, Any]],
    spectra: Spectra,
    *,
    conv: str,
) -> Report:
    """A report of rows, with a column for all that can be measured."""
    left_out = pd.DataFrame(skipped, columns=["name", "shape", "reason"])
    return Report(layers_table(rows), left_out, spectra, conv)


def is_report(path: Path) -> bool:
    """Whether a path is that of a saved report, by its name: not of a checkpoint's index."""
    return path.suffix == ".json" and not path.name.endswith(INDEX)


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
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {content['format']}; expected {FORMAT}, so evaluate again"
            )
        rows = content["layers"]
        spectra = {
            (row["name"], row["index"]): np.frombuffer(base64.b64decode(text), "<f8")
            for row, text in zip(rows, content["spectra"], strict=True)
        }
        return make_report(rows, content["skipped"], spectra, conv=content["conv"])
    except (json.JSONDecodeError, UnicodeDecodeError, binascii.Error, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report written by Report.save: {error!r}") from error
