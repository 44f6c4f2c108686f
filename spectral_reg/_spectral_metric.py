"""What a metric is: a function of matrices that depends on their eigenvalues alone."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax

from ._eigenvalues import eigenvalues

FunctionOfEigenvalues = Callable[..., jax.Array]
Metric = Callable[..., jax.Array]


class SpectralMetric(Protocol):
    """A function of matrices ``[..., rows, cols]`` that keeps its function of eigenvalues."""

    of_eigenvalues: FunctionOfEigenvalues

    def __call__(self, W: jax.Array, **options: Any) -> jax.Array: ...


def spectral_metric(
    function_of_eigenvalues: FunctionOfEigenvalues, *, of_matrix: Metric | None = None
) -> SpectralMetric:
    """Makes a metric of matrices from a function of their eigenvalues.

    ``metric(W) = function_of_eigenvalues(eigenvalues(W))``

    Args:
        function_of_eigenvalues: Takes eigenvalues ``[..., M]``, descending, and gives ``[...]``.
            Its keyword arguments become those of the metric.
        of_matrix: A cheaper way to the same values from ``[..., rows, cols]``, where there is one.

    Returns:
        The metric: ``[..., rows, cols]`` to ``[...]``. It keeps ``function_of_eigenvalues`` as its
        attribute ``of_eigenvalues``, for callers that have the spectrum already.

    Example:
        >>> import jax.numpy as jnp
        >>> import spectral_reg as sr
        >>> @sr.spectral_metric
        ... def spectral_gap(eigenvalues):
        ...     return eigenvalues[..., 0] - eigenvalues[..., 1]
        >>> print(spectral_gap(jnp.diag(jnp.array([2.0, 1.0]))))
        3.0

    Cost: that of :func:`eigenvalues`, unless ``of_matrix`` is given.
    """

    @functools.wraps(function_of_eigenvalues)
    def metric(W: jax.Array, **options: Any) -> jax.Array:
        if of_matrix is not None:
            return of_matrix(W, **options)
        return function_of_eigenvalues(eigenvalues(W), **options)

    signature = inspect.signature(function_of_eigenvalues)
    first, *rest = signature.parameters.values()
    metric.__signature__ = signature.replace(parameters=[first.replace(name="W"), *rest])  # type: ignore[attr-defined]
    metric.of_eigenvalues = function_of_eigenvalues  # type: ignore[attr-defined]
    return cast(SpectralMetric, metric)


def of_eigenvalues(metric: Metric) -> FunctionOfEigenvalues:
    """The metric's function of eigenvalues, or an error that says how to give it one."""
    function = getattr(metric, "of_eigenvalues", None)
    if function is None:
        name = getattr(metric, "__name__", repr(metric))
        raise ValueError(
            f"the metric {name} is a plain function of matrices, but the spectrum of one layer is "
            "wanted here; make it with @spectral_reg.spectral_metric from a function of the "
            "eigenvalues"
        )
    return cast(FunctionOfEigenvalues, function)
