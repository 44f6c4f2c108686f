"""Models compared: what was measured on each, and how it goes with their quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

import spectral_reg as sr

from .._evaluation import evaluate
from .._reports import Report, is_report, load_report
from ._alignment import align
from ._compared import REFERENCE, Compared, load_compared
from ._described import comparison_html, describe_comparison
from ._figures import plot_comparison
from ._layer_changes import layer_changes
from ._page import write_page
from ._quality_table import check_quality, quality_table

# How deep and how large a model is: what has to be ruled out before a metric explains its quality.
CONTROLS = ("log_num_layers", "log_num_weights")
# What says nothing of the weights, and means of the summary once more, in log10.
OTHERS = ("share_left_out", "largest_left_out")
REPEATED = ("published_alpha_hat", "published_log_frobenius_norm", "published_log_lambda_max")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Compared):
    """Models beside one another.

    Attributes:
        values: One row a model, one column a metric; natural logarithms.
        quality: The quality of each model, such as its test accuracy; None where none was given.
        table: One row a metric. Without a quality it has no columns. With one: ``num_models`` that
            have a value, the regression ``slope`` and ``intercept`` of quality on the metric,
            ``rmse`` and ``r2`` with their 95 % intervals (``_low``, ``_high``), Kendall's ``tau``
            with its exact two-sided p-value ``tau_p`` and its range when any one model is left out,
            ``expected_sign`` (-1 where the theory expects the metric to fall as the quality rises,
            0 where it makes no claim), for each control ``tau_given_...``, ``r_given_...`` and
            ``p_given_...`` (partial rank and linear correlation, and the p-value of the latter),
            and ``p_equal_to_reference``, the p-value of its correlation being as strong as that of
            the reference metric. NaN where a statistic is not defined. The first rows are the
            controls themselves.
        layers: The matrices that all models share, one row each, columns by quantity and model;
            ``spectrum_change`` is relative to the first model. None where none is shared.
        controls: The columns of ``values`` that the partial statistics hold fixed.
        reference: The metric that the others are compared with.
        notes: How the matrices of differently named models were matched, and what stands against
            it: which wrappers were left out of the names, or that no matrix is shared.
    """

    def __repr__(self) -> str:
        return "\n".join(describe_comparison(self))

    def _repr_html_(self) -> str:
        return comparison_html(self)

    def to_html(self, path: str | Path, *, title: str = "Models compared") -> Path:
        """Writes one self-contained page, whole or not at all.

        The sentences, a table of the shared matrices to sort and filter, the most changed first,
        and every metric. It loads nothing and runs no script but its own.

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
        """Draws the figures into a folder, which is made where it is missing.

        With a quality, ``alpha_hat.png`` and ``metrics.png``: quality against the reference metric
        and against every metric, with regression lines. Where layers are shared, ``layers.png``:
        their metrics and changes against depth.

        Returns:
            The paths of the figures.

        Raises:
            ValueError: If there is neither a quality nor a shared layer to draw.
        """
        return plot_comparison(self, Path(folder))


def compare(
    reports: Mapping[str, Any],
    *,
    quality: Mapping[str, float] | None = None,
    conv: str | sr.ConvOperator = "slices",
    axes: Any = None,
    num_bootstrap: int = 0,
) -> Comparison:
    """Compares models by every summary metric, and each metric with the models' quality.

    Args:
        reports: Names to reports, to paths of saved reports (``.json``), or to whatever
            :func:`evaluate` takes, live models among it. At least two.
        quality: Names to a number that is larger for a better model, such as test accuracy; names
            of other models may be among them. At least four models, which had better be of one
            task.
        conv: As for :func:`evaluate`, for what is not a report yet.
        axes: As for :func:`evaluate`, for what is not a report yet.
        num_bootstrap: As for :func:`evaluate`, for what is not a report yet.

    Returns:
        A :class:`Comparison`: ``values``, ``table`` of statistics, and ``layers`` where the models
        share any.

    Raises:
        ValueError: If there are too few models, a name has no quality, a quality is not finite, or
            the reports are of different ``conv``.
        FileNotFoundError: If a path does not exist.

    Example:
        >>> import numpy as np, fitting
        >>> scales = {"first": 1.0, "second": 0.5}
        >>> weights = np.random.default_rng(0).normal(size=(90, 60))
        >>> models = {name: {"fc": {"kernel": weights * scale}} for name, scale in scales.items()}
        >>> reports = {name: fitting.evaluate(m, progress=False) for name, m in models.items()}
        >>> comparison = fitting.compare(reports)
        >>> comparison.values["mean_log_spectral_norm"].diff()["second"].round(3)
        np.float64(-0.693)
        >>> float(comparison.layers["spectrum_change", "second"].iloc[0].round(3))
        0.5

    The first rows of the table are the controls, the logs of the number of layers and of the
    measured weights: where these go with the quality as well as a metric does, the models do not
    show that the metric measures more than depth or size.

    A matrix is the same in two models if its name is and its two sides are, whichever of them is
    the input. What wraps a model counts for nothing (``model/``, ``module/``, ``_orig_mod/``,
    ``_forward_module/``, ``base_model/model/`` in front, ``base_layer/`` inside), nor does what
    transformers 5 calls otherwise in memory than in its files; ``notes`` says where that was so.

    Cost: for paths of checkpoints that of :func:`evaluate`; the statistics take no time beside it.

    References:
        Martin and Mahoney, Universality and capacity metrics, Figures 2 and 3.
    """
    if len(reports) < 2:
        raise ValueError(f"reports is of {len(reports)} models; expected at least 2")
    if quality is not None:
        check_quality(quality, list(reports))  # before the time that an evaluation takes
    evaluate_alike = partial(evaluate, conv=conv, axes=axes, num_bootstrap=num_bootstrap)
    loaded = {name: _report(report, evaluate_alike) for name, report in reports.items()}
    convs = {name: report.conv for name, report in loaded.items()}
    if len(set(convs.values())) > 1:
        raise ValueError(
            f"conv is not the same in all reports, {convs}; expected one; evaluate them alike"
        )
    values = pd.DataFrame.from_dict(
        {name: _sizes(report) | _metrics(report) for name, report in loaded.items()},
        orient="index",
    )
    comparison = compare_values(values, quality=quality, controls=CONTROLS)
    keys, notes = align(loaded)
    return replace(comparison, layers=layer_changes(loaded, keys), notes=notes)


def load_comparison(path: str | Path) -> Comparison:
    """Reads a comparison that :meth:`Comparison.save` wrote.

    Args:
        path: The JSON file.

    Returns:
        The :class:`Comparison`, equal to the one that was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a comparison.

    Example:
        >>> import tempfile, numpy as np, fitting
        >>> weights = np.random.default_rng(0).normal(size=(90, 60))
        >>> first, second = {"fc": {"kernel": weights}}, {"fc": {"kernel": 2 * weights}}
        >>> comparison = fitting.compare({"first": first, "second": second})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = comparison.save(f"{folder}/comparison.json")
        ...     fitting.load_comparison(path) == comparison
        True
    """
    compared = load_compared(Path(path))
    return Comparison(**{field.name: getattr(compared, field.name) for field in fields(compared)})


def compare_values(
    values: pd.DataFrame,
    *,
    quality: Mapping[str, float] | pd.Series | None,
    controls: Sequence[str] = (),
    reference: str = REFERENCE,
) -> Comparison:
    """Compares models by a table of numbers, such as a published one.

    Args:
        values: One row a model, one column a metric.
        quality: Index of ``values`` to a number that is larger for a better model; None for none.
        controls: Columns to hold fixed in the partial statistics.
        reference: Column to compare the others with.

    Returns:
        A :class:`Comparison`, without ``layers``.

    Raises:
        ValueError: If there are too few models, a name has no quality, a quality is not finite, or
            a control is no column.

    Example:
        >>> import pandas as pd, fitting
        >>> models = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
        >>> alpha_hat = [2.720, 1.746, 1.408, 0.666, 0.431]
        >>> values = pd.DataFrame({"mean_alpha_hat": alpha_hat}, index=models)
        >>> top1 = dict(zip(models, [69.76, 73.31, 76.13, 77.37, 78.31]))
        >>> comparison = fitting.compare_values(values, quality=top1)
        >>> comparison.table[["rmse", "r2", "tau", "tau_p"]].round(3)
                         rmse     r2  tau  tau_p
        mean_alpha_hat  0.604  0.962 -1.0  0.017

    References:
        Martin, Peng and Mahoney, Predicting trends in the quality of state-of-the-art neural
        networks, Nature Communications 12:4122, 2021: the published tables.
    """
    missing = [name for name in controls if name not in values]
    if missing:
        raise ValueError(
            f"controls is {list(controls)}, of which {missing} are no columns of values; expected "
            f"some of {list(values)}"
        )
    ordered = [*controls, *(str(name) for name in values if name not in controls)]
    values = values[ordered].astype("float64")
    if quality is None:
        chosen, table = None, pd.DataFrame(index=ordered)
    else:
        chosen = check_quality(dict(quality), list(values.index))
        table = quality_table(values, chosen, controls, reference)
    return Comparison(values, chosen, table, None, tuple(controls), reference)


def _report(report: Any, evaluate_alike: Callable[..., Report]) -> Report:
    if isinstance(report, Report):
        return report
    if isinstance(report, str | Path) and is_report(Path(report)):
        return load_report(report)
    return evaluate_alike(report, progress=False)


def _sizes(report: Report) -> dict[str, float]:
    layers = report.layers
    sides = layers[["rows", "cols"]].astype("float64")
    # A pooled row stands for several matrices.
    num_matrices = layers["num_eigenvalues"].astype("float64") / sides.min(axis=1)
    num_weights = float((sides.prod(axis=1) * num_matrices).sum())
    sizes = (report.summary["num_layers"], num_weights)
    return dict(zip(CONTROLS, map(math.log, sizes), strict=True))


def _metrics(report: Report) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in report.summary.items()
        if not name.startswith("num_") and name not in (*REPEATED, *OTHERS)
    }
