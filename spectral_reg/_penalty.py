"""Spectral penalties as loss terms."""

import contextlib
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from ._axes_argument import Axes
from ._layers import CONV_MATRICES, Conv, layer_spectra, read_layers
from ._spectral_metric import Metric, check_metric, function_of_eigenvalues, then
from ._trees import Mask, PyTree


def check_number(name: str, value: float | jax.Array) -> None:
    if isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number")


@contextlib.contextmanager
def in_layer(name: str) -> Iterator[None]:
    """Names the layer in what a metric says of its spectrum."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error


def spectral_penalty(
    params: PyTree,
    metric: Metric,
    *,
    mask: Mask = None,
    conv: Conv = "slices",
    axes: Axes = None,
    reduce: str = "sum",
) -> jax.Array:
    """A metric summed over the weight matrices of a model.

    ``sum over matrices W of metric(W)``, to be added to a loss times a strength.

    Args:
        params: The parameters, as for :func:`layer_matrices`.
        metric: From matrices ``[..., rows, cols]`` to ``[...]``, such as :func:`log_stable_rank`.
        mask: Which leaves, as for :func:`layer_matrices`.
        conv: ``"slices"``, ``"flatten"``, ``"pooled"`` or :func:`conv_operator`, as for
            :func:`layer_spectra`.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.
        reduce: ``"sum"`` or ``"mean"`` over all matrices, slices counted one by one.

    Returns:
        A scalar, differentiable in ``params``, in float32 or wider.

    Raises:
        ValueError: If ``reduce`` is unknown, the metric gives another shape, or as for
            :func:`layer_spectra`.
        TypeError: As for :func:`layer_spectra`.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"fc1": {"kernel": 3 * jnp.eye(4)}, "fc2": {"kernel": jnp.eye(2)}}
        >>> print(sr.spectral_penalty(params, sr.stable_rank))
        6.0

    Cost: one eigendecomposition a matrix; see :func:`eigenvalues`. Finite, with a finite gradient,
    on zero, rank-one and orthogonal matrices.
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce is {reduce!r}; expected sum or mean")
    values = layer_values(params, metric, mask=mask, conv=conv, axes=axes)
    total = total_of(values)
    return total / sum(value.size for value in values.values()) if reduce == "mean" else total


def layer_values(
    params: PyTree, metric: Metric, *, mask: Mask, conv: Conv, axes: Axes
) -> dict[str, jax.Array]:
    """The metric of each layer's matrices, by path."""
    check_metric(metric)
    if conv in CONV_MATRICES:
        layers = read_layers(params, mask=mask, conv=conv, axes=axes)
        matrices = {name: layer.weight for name, layer in layers.items()}
        shapes = {name: W.shape[:-2] for name, W in matrices.items()}
        function, arguments = metric, matrices
    else:
        spectra = layer_spectra(params, mask=mask, conv=conv, axes=axes)
        shapes = {name: spectrum.shape[:-1] for name, spectrum in spectra.items()}
        function, arguments = function_of_eigenvalues(metric), spectra
    values = {}
    for name, argument in arguments.items():
        with in_layer(name):
            value = values[name] = function(argument)
        if value.shape != shapes[name]:
            raise ValueError(
                f"the metric gave shape {value.shape} for {name!r}; expected {shapes[name]}, one "
                "number a matrix: a function of eigenvalues, such as an estimator of alpha, "
                "becomes a metric by spectral_metric"
            )
    return values


def total_of(values: dict[str, jax.Array]) -> jax.Array:
    """The sum over all layers and the matrices of each."""
    return sum((jnp.sum(value) for value in values.values()), start=jnp.zeros(()))


def target(metric: Metric, value: float, *, band: float = 0.0) -> Metric:
    r"""Squared distance of a metric from a value, outside a band.

    .. math:: \max(0, |m(W) - value| - band)^2

    Args:
        metric: From ``[..., rows, cols]`` to ``[...]``.
        value: Where to steer the metric. It does not transfer between estimators or shapes, and
            alpha at a value is no power law: for that, take :func:`power_law_distance`.
        band: Half-width within which there is no force.

    Returns:
        A metric, 0 with gradient 0 inside the band.

    Raises:
        ValueError: If the value is not finite or the band is negative.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.target(sr.stable_rank, 2.0, band=0.5)(jnp.eye(4)))
        2.25

    Cost: that of the metric.
    """
    check_number("value", value)
    if not band >= 0:
        raise ValueError(f"band is {band}; expected a number of at least 0")
    return then(
        metric,
        lambda measured: jnp.square(jnp.maximum(jnp.abs(measured - value) - band, 0)),
        "target",
    )


def hinge(metric: Metric, *, below: float | None = None, above: float | None = None) -> Metric:
    r"""Distance of a metric past a bound: no force, hence no over-regularization, before it.

    .. math:: \max(0, below - m(W)) + \max(0, m(W) - above)

    Args:
        metric: From ``[..., rows, cols]`` to ``[...]``.
        below: Active where the metric is below this.
        above: Active where the metric is above this.

    Returns:
        A metric, 0 with gradient 0 between the bounds.

    Raises:
        ValueError: If neither bound is given, or one is not finite.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.hinge(sr.stable_rank, above=3.0)(jnp.eye(4)))
        1.0

    Cost: that of the metric.

    References:
        Heavy-Tailed Regularization of weight matrices, 2023, arXiv 2304.02911.
    """
    if below is None and above is None:
        raise ValueError("below and above are None; expected at least one bound")
    for name, bound in (("below", below), ("above", above)):
        if bound is not None:
            check_number(name, bound)

    def past_bound(measured: jax.Array) -> jax.Array:
        distance = jnp.zeros_like(measured)
        if below is not None:
            distance += jnp.maximum(below - measured, 0)
        if above is not None:
            distance += jnp.maximum(measured - above, 0)
        return distance

    return then(metric, past_bound, "hinge")
