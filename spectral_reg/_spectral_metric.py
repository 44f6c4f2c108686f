"""What a metric is: a function of matrices that depends on their eigenvalues alone."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp

from ._eigenvalues import as_matrices, eigenvalues, largest_eigenvalue
from ._hyperparameters import stays_itself

FunctionOfEigenvalues = Callable[..., jax.Array]
FunctionOfNorms = Callable[[jax.Array, jax.Array], jax.Array]
Metric = Callable[..., jax.Array]


@runtime_checkable
class SpectralMetric(Protocol):
    """A function of matrices ``[..., rows, cols]`` that keeps its function of eigenvalues.

    Attributes:
        of_eigenvalues: From eigenvalues ``[..., M]``, descending, to ``[...]``.
        fraction: Share of the spectrum, from the top, that it reads with its default options. The
            eigenvalues below may have any value, such as zero, but must be present.
        scale_free: Whether W and c W have the same value.
    """

    of_eigenvalues: FunctionOfEigenvalues
    fraction: float
    scale_free: bool

    def __call__(self, W: jax.Array, **options: Any) -> jax.Array: ...


@runtime_checkable
class NormMetric(SpectralMetric, Protocol):
    """A metric of the Frobenius norm and the largest eigenvalue alone.

    Attributes:
        of_norms: From ||W||_F^2 and lambda_max, each ``[...]``, to ``[...]``.
    """

    of_norms: FunctionOfNorms


def spectral_metric(
    function_of_eigenvalues: FunctionOfEigenvalues,
    *,
    fraction: float | None = None,
    scale_free: bool = False,
) -> SpectralMetric:
    """Makes a metric of matrices from a function of their eigenvalues.

    ``metric(W) = function_of_eigenvalues(eigenvalues(W))``

    Args:
        function_of_eigenvalues: Takes eigenvalues ``[..., M]``, descending, and gives ``[...]``.
            Its keyword arguments become those of the metric.
        fraction: Share of the spectrum, from the top, that the function reads: the largest
            M - int((1 - fraction) M), at least 3. By default the function's own attribute of this
            name, which the estimators of alpha have, or else 1.
        scale_free: Whether W and c W have the same value. W is then first divided by a power of two
            near its largest element, so that no square of it overflows.

    Returns:
        The metric: ``[..., rows, cols]`` to ``[...]``. It keeps ``function_of_eigenvalues`` as its
        attribute ``of_eigenvalues``, for callers that have the spectrum already, and ``fraction``.

    Raises:
        ValueError: If the fraction is outside (0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> import spectral_reg as sr
        >>> @sr.spectral_metric
        ... def spectral_gap(eigenvalues):
        ...     return eigenvalues[..., 0] - eigenvalues[..., 1]
        >>> print(spectral_gap(jnp.diag(jnp.array([2.0, 1.0]))))
        3.0

    Cost and errors of the metric: those of :func:`eigenvalues`.
    """
    read = top_fraction(function_of_eigenvalues) if fraction is None else fraction
    check_fraction("fraction", read)

    @stays_itself
    @functools.wraps(function_of_eigenvalues)
    def metric(W: jax.Array, **options: Any) -> jax.Array:
        W = as_matrices(W)
        return function_of_eigenvalues(eigenvalues(_scaled(W) if scale_free else W), **options)

    signature = inspect.signature(function_of_eigenvalues)
    first, *rest = signature.parameters.values()
    metric.__signature__ = signature.replace(parameters=[first.replace(name="W"), *rest])  # type: ignore[attr-defined]
    metric.of_eigenvalues = function_of_eigenvalues  # type: ignore[attr-defined]
    metric.fraction = read  # type: ignore[attr-defined]
    metric.scale_free = scale_free  # type: ignore[attr-defined]
    return cast(SpectralMetric, metric)


def norm_metric(function_of_norms: FunctionOfNorms, *, scale_free: bool = False) -> NormMetric:
    """Makes a metric of matrices from a function of their Frobenius norm and largest eigenvalue.

    ``metric(W) = function_of_norms(||W||_F^2, lambda_max)``

    Such a metric is cheaper than one of the whole spectrum: its gradient needs one singular vector,
    and ``tracking="warm"`` follows that vector by conjugate gradients, without a decomposition.

    Args:
        function_of_norms: Takes the squared Frobenius norm and lambda_max, each ``[...]``, and
            gives ``[...]``.
        scale_free: As for :func:`spectral_metric`.

    Returns:
        The metric, as :func:`spectral_metric` makes it, with ``of_norms`` beside
        ``of_eigenvalues``.

    Example:
        >>> import jax.numpy as jnp
        >>> import spectral_reg as sr
        >>> @sr.norm_metric
        ... def share_of_the_top(squared_norm, lambda_max):
        ...     return lambda_max / squared_norm
        >>> print(share_of_the_top(jnp.eye(4)))
        0.25

    Cost of the metric: one product of N M^2 and one M x M eigendecomposition for value and gradient
    together. Its errors are those of :func:`eigenvalues`.
    """

    def of_eigenvalues(eigenvalues: jax.Array) -> jax.Array:
        return function_of_norms(jnp.sum(eigenvalues, axis=-1), eigenvalues[..., 0])

    @stays_itself
    @functools.wraps(function_of_norms)
    def metric(W: jax.Array) -> jax.Array:
        W = as_matrices(W)
        W = _scaled(W) if scale_free else W
        return function_of_norms(jnp.sum(W * W, axis=(-2, -1)), largest_eigenvalue(W))

    # Its signature is of W, not of norms.
    del metric.__wrapped__  # type: ignore[attr-defined]
    metric.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("W", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=jax.Array)],
        return_annotation=jax.Array,
    )
    metric.of_eigenvalues = of_eigenvalues  # type: ignore[attr-defined]
    metric.of_norms = function_of_norms  # type: ignore[attr-defined]
    metric.fraction, metric.scale_free = 1.0, scale_free  # type: ignore[attr-defined]
    return cast(NormMetric, metric)


def _scaled(W: jax.Array) -> jax.Array:
    """W over a power of two, which costs no digits, so that its largest element is about 1."""
    kind = jnp.finfo(W.dtype)
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(W)), axis=(-2, -1), keepdims=True)
    scale = jax.lax.reduce_precision(jnp.clip(largest, kind.tiny, kind.max / 4), kind.nexp, 0)
    # A zero matrix stays one; what is not finite stays so, by its own elements.
    return W / jnp.where((largest > 0) & jnp.isfinite(largest), scale, 1)


def check_fraction(name: str, fraction: float) -> None:
    """Refuses what is no share of a spectrum."""
    if not 0 < fraction <= 1:
        raise ValueError(f"{name} is {fraction}; expected a fraction of the spectrum in (0, 1]")


def tail_size(fraction: float, num_eigenvalues: int) -> int:
    """How many eigenvalues, counted from the largest, a fraction of the spectrum is."""
    return max(2, num_eigenvalues - int((1 - fraction) * num_eigenvalues))


def top_fraction(metric: Callable) -> float:
    """The share of the spectrum, from the top, that a metric or an estimator reads.

    If only the K largest eigenvalues are known, zeros may stand for the others, to the full length
    M: the metric has the same value and gradient as long as K is at least
    max(3, ``tail_size(top_fraction(metric), M)``). A metric that does not say reads the whole
    spectrum. The fraction of an option bound by ``functools.partial`` takes precedence:
    ``partial(sr.alpha, estimator=sr.hill(0.1))`` reads the top tenth.
    """
    if isinstance(metric, functools.partial):
        options = [value for value in metric.keywords.values() if callable(value)]
        return max(map(top_fraction, options)) if options else top_fraction(metric.func)
    return getattr(metric, "fraction", 1.0)


def is_scale_free(metric: Metric) -> bool:
    """Whether the metric says that it has one value for W and c W."""
    return getattr(getattr(metric, "func", metric), "scale_free", False)


def resolved(metric: Metric) -> Metric:
    """The metric, with its options bound where it is a ``functools.partial`` of one."""
    if isinstance(metric, functools.partial) and isinstance(metric.func, SpectralMetric):
        bound = functools.partial(metric.func.of_eigenvalues, **metric.keywords)
        functools.update_wrapper(bound, metric.func.of_eigenvalues)
        return spectral_metric(
            bound, fraction=top_fraction(metric), scale_free=is_scale_free(metric)
        )
    return metric


def metric_name(metric: Metric) -> str:
    """What a metric is called, in messages and in states."""
    while isinstance(metric, functools.partial):
        metric = metric.func
    return getattr(metric, "__name__", type(metric).__name__)


def check_metric(metric: Any) -> None:
    """Refuses what is no function, such as the name of one."""
    if not callable(metric):
        raise TypeError(
            f"metric is {metric!r}; expected a function of matrices, such as "
            "spectral_reg.log_stable_rank"
        )


def function_of_eigenvalues(metric: Metric) -> FunctionOfEigenvalues:
    """The metric's function of eigenvalues, or an error that says how to give it one."""
    metric = resolved(metric)
    if not isinstance(metric, SpectralMetric):
        raise ValueError(
            f"the metric {metric_name(metric)} is a plain function of matrices; expected one of a "
            "spectrum here; make it with @spectral_reg.spectral_metric from a function of the "
            "eigenvalues"
        )
    return metric.of_eigenvalues


def then(metric: Metric, function: Callable[[jax.Array], jax.Array], name: str) -> Metric:
    """The metric followed by a function, with all the forms that the metric has."""
    check_metric(metric)
    metric = resolved(metric)

    def named(followed: Callable) -> Callable:
        followed.__name__ = followed.__qualname__ = f"{name}_{metric_name(metric)}"
        return followed

    if isinstance(metric, NormMetric):
        of_norms = metric.of_norms
        return norm_metric(
            named(lambda squared_norm, top: function(of_norms(squared_norm, top))),
            scale_free=is_scale_free(metric),
        )
    if isinstance(metric, SpectralMetric):
        of_eigenvalues = metric.of_eigenvalues
        return spectral_metric(
            named(lambda eigenvalues: function(of_eigenvalues(eigenvalues))),
            fraction=top_fraction(metric),
            scale_free=is_scale_free(metric),
        )
    return stays_itself(named(lambda W: function(metric(W))))
