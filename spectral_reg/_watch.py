"""Metrics of every layer, watched during training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._axes_argument import Axes, ResolvedAxes
from ._clock import check_every, renewed
from ._conv_operator import ConvOperator
from ._hyperparameters import unpacked
from ._joint_metric import joints_of
from ._layers import CONV_MATRICES, Conv, check_conv, layer_spectra, read_layers
from ._one_body import in_one_body
from ._optax_state import check_fits, check_params, check_values, is_placeholder, zeros_of
from ._part_of_model import select_part
from ._penalty import in_layer, layer_values
from ._spectral_metric import (
    Metric,
    SpectralMetric,
    check_metric,
    function_of_eigenvalues,
    metric_name,
    resolved,
)
from ._tracked_penalty import Vectors, check_tail, no_tracking, tracked_values
from ._trees import Mask, PyTree

Leaves = dict[str, jax.Array]
Values = dict[str, Leaves]


class SpectralWatchState(NamedTuple):
    """State of :func:`watch_spectra`.

    Attributes:
        count: Steps taken.
        values: Last value of each matrix: name of the metric, to path, to ``[...]``. Zeros before
            the first step.
        vectors: Path to singular vectors, where ``tracking`` follows them, for each set of metrics
            that is followed together; else empty.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    values: Values
    vectors: tuple[Vectors, ...]


def watch_spectra(
    metrics: Metric | Sequence[Metric] | Mapping[str, Metric],
    *,
    mask: Mask = None,
    conv: Conv = "slices",
    axes: Axes = None,
    every: int = 1,
    tracking: str = "exact",
) -> optax.GradientTransformationExtraArgs:
    """Keeps metrics of every layer in the optimizer's state, and changes no update.

    The values are those of the parameters that the step starts from, like the loss of that step.
    :func:`spectral_values` turns them into flat scalars for any logger.

    Args:
        metrics: One, several, or a dict of several under names of your own. All that are made by
            :func:`spectral_metric` or :func:`norm_metric` share one decomposition per matrix.
        mask: Which leaves, as for :func:`layer_matrices`.
        conv: As for :func:`spectral_penalty`.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.
        every: Measure at each n-th step, the first included, and keep the values between.
        tracking: ``"exact"``, ``"warm"`` or ``"tail"``, as for :func:`add_spectral_penalty`. Where
            all metrics read the norms alone they then cost two passes over a weight; with
            ``"tail"`` also beside metrics of the top of the spectrum.

    Returns:
        The transformation; ``update`` needs ``params``.

    Raises:
        ValueError: If there is no metric, two have the same name, or as for
            :func:`add_spectral_penalty`.
        TypeError: If a metric is no function.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> watch = sr.watch_spectra([sr.stable_rank, sr.spectral_norm], every=10)
        >>> optimizer = optax.chain(optax.sgd(0.1), watch)
        >>> params = {"fc": {"kernel": 3 * jnp.eye(4)}}
        >>> _, state = optimizer.update(params, optimizer.init(params), params)
        >>> {name: float(value) for name, value in sr.spectral_values(state).items()}
        {'spectral_norm/fc/kernel': 3.0, 'stable_rank/fc/kernel': 4.0}

    Cost: one eigendecomposition per matrix at each n-th step, nothing between. Where an exact
    penalty of a matrix that is the only one of its shape is also computed at every step, the
    compiler merges the two decompositions, if the metrics of both are scale-free or those of both
    are not.
    Degenerate spectra: as for each metric; NaN weights give NaN.
    """
    mask, conv = unpacked(mask), unpacked(conv)
    named = _named(unpacked(metrics))
    check_conv(conv)
    period = check_every(every)
    if tracking not in ("exact", "warm", "tail"):
        raise ValueError(f"tracking is {tracking!r}; expected exact, warm or tail")
    is_tracked = tracking != "exact"
    if is_tracked and isinstance(conv, ConvOperator):
        raise ValueError(
            f"tracking is {tracking!r} and conv is conv_operator{conv.size}, whose spectrum is not "
            "tracked; expected tracking='exact'"
        )
    of_spectra = {name: m for name, m in named.items() if isinstance(m, SpectralMetric)}
    plain = {name: metric for name, metric in named.items() if name not in of_spectra}
    needs_spectra = is_tracked or isinstance(conv, ConvOperator) or conv == "pooled"
    for metric in plain.values() if needs_spectra else ():
        function_of_eigenvalues(metric)  # refuses a plain function
    if tracking == "tail":
        for metric in of_spectra.values():
            check_tail(metric)
    joints = joints_of(of_spectra, tracking)

    def start(leaves: Leaves, axes: ResolvedAxes) -> tuple[Vectors, ...]:
        if not is_tracked:
            return ()
        return tuple(no_tracking(leaves, joint, conv, axes, tracking) for _, joint in joints)

    def measure(
        leaves: dict[str, Any], vectors: tuple[Vectors, ...], axes: ResolvedAxes
    ) -> tuple[Values, tuple[Vectors, ...]]:
        def one(path: str, argument: tuple[Any, list[Any]]) -> tuple[Leaves, list[Any]]:
            own, last, its_axes = {path: argument[0]}, argument[1], ResolvedAxes({path: axes[path]})
            mask = {path: True}
            values = {
                name: layer_values(own, metric, mask=mask, conv=conv, axes=its_axes)[path]
                for name, metric in plain.items()
            }
            followed = []
            for place, (names, joint) in enumerate(joints):
                if is_tracked:
                    start = {path: last[place]}
                    together, new = tracked_values(own, start, joint, conv, its_axes, tracking)
                    followed.append(new[path])
                else:
                    together = _as_decomposed(joint, own, conv, its_axes)
                values |= {name: together[path][..., index] for index, name in enumerate(names)}
            return values, followed

        arguments = {
            path: (leaf, [followed[path] for followed in vectors]) for path, leaf in leaves.items()
        }
        done = in_one_body(one, arguments, axes)
        values = {name: {path: of[name] for path, (of, _) in done.items()} for name in named}
        followed = [{path: new[i] for path, (_, new) in done.items()} for i in range(len(vectors))]
        return values, tuple(followed)

    def init(params: PyTree) -> SpectralWatchState:
        count = jnp.zeros((), jnp.int32)
        if is_placeholder(params):
            by_path: Any = jnp.zeros(())
            vectors = (by_path,) * len(joints) if is_tracked else ()
            return SpectralWatchState(count, dict.fromkeys(named, by_path), vectors)
        leaves, axes_of = select_part(params, mask, axes, "watch_spectra")

        def results(leaves: Leaves) -> tuple[Values, tuple[Vectors, ...]]:
            vectors = start(leaves, axes_of)
            return measure(leaves, vectors, axes_of)[0], vectors

        values, vectors = zeros_of(results, leaves)
        return SpectralWatchState(count, values, vectors)

    def update(
        updates: PyTree, state: SpectralWatchState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, SpectralWatchState]:
        del extra
        check_params(params)
        leaves, axes_of = select_part(params, mask, axes, "watch_spectra")
        shapes = jax.eval_shape(lambda leaves: start(leaves, axes_of), leaves)
        check_fits("vectors", state.vectors, shapes)
        check_values(state.values, named, "other metrics")
        for by_path in state.values.values():
            check_values(by_path, leaves, "other params or another mask")
        due = state.count % period == 0
        held = (state.values, state.vectors)

        def new() -> tuple[Values, tuple[Vectors, ...]]:
            return measure(leaves, state.vectors, axes_of)

        is_always = isinstance(period, int) and period == 1
        values, vectors = new() if is_always else renewed(due, new, held)
        return updates, SpectralWatchState(optax.safe_increment(state.count), values, vectors)

    return optax.GradientTransformationExtraArgs(init, update)


def _named(metrics: Metric | Sequence[Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    if not isinstance(metrics, Mapping):
        several = metrics if isinstance(metrics, Sequence) else [metrics]
        for metric in several:
            check_metric(metric)
        names = [metric_name(metric) for metric in several]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"metrics is {names}; expected one of each name: give {min(twice)!r} names of its "
                "own, as a dict of names to metrics"
            )
        metrics = dict(zip(names, several, strict=True))
    if not metrics:
        raise ValueError("metrics is empty; expected at least one, such as spectral_reg.alpha")
    for metric in metrics.values():
        check_metric(metric)
    # JAX sorts the keys of a dict: in one order from the start, the state keeps its structure.
    return {name: resolved(metrics[name]) for name in sorted(metrics)}


def _as_decomposed(joint: SpectralMetric, leaves: Leaves, conv: Conv, axes: ResolvedAxes) -> Leaves:
    """The metrics of each layer, by the very operations that a penalty does."""
    everything = dict.fromkeys(leaves, True)
    function: Callable[[jax.Array], jax.Array] = joint
    if conv in CONV_MATRICES:
        layers = read_layers(leaves, mask=everything, conv=conv, axes=axes)
        arguments = {path: layer.weight for path, layer in layers.items()}
    else:
        function = function_of_eigenvalues(joint)
        arguments = layer_spectra(leaves, mask=everything, conv=conv, axes=axes)
    values = {}
    for path, argument in arguments.items():
        with in_layer(path):
            values[path] = function(argument)
    return values
