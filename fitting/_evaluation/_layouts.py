"""What each tensor of a model is: a weight to measure and how it is laid out, or why not."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

import spectral_reg as sr
from spectral_reg._axes import arrange, part_names
from spectral_reg._axes_argument import Axes, read_axes
from spectral_reg._default_axes import Known
from spectral_reg._leaf_names import NOT_A_NAME as NOT_A_NAME
from spectral_reg._reading import LeafReading, read_leaves
from spectral_reg._reparametrized import Form, make_weight
from spectral_reg._trees import check_patterns, matches

from .._checkpoints import Tensor
from ._architectures import num_groups
from ._composites import compose
from ._experts import place_experts, unfold_experts
from ._fused import known_layout
from ._one_by_one import one_by_one
from ._unit import Split, Unit

QUANTIZED = ("int8", "uint8", "int4", "uint4", "int2", "uint2")


class Plan(NamedTuple):
    """What becomes of every tensor.

    Attributes:
        units: What is measured, in the order of the model.
        skipped: The tensors that are not measured by themselves, by name: shape and reason.
    """

    units: tuple[Unit, ...]
    skipped: dict[str, tuple[tuple[int, ...], str]]


def plan(
    tensors: Mapping[str, Tensor],
    *,
    conv: str | sr.ConvOperator = "slices",
    layers: Sequence[str] | None = None,
    axes: Axes = None,
    config: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Plan:
    """Decides for every tensor, from its name and shape alone.

    Args:
        tensors: From :func:`open_checkpoint`.
        conv: As for :func:`fitting.evaluate`.
        layers: As for :func:`fitting.evaluate`.
        axes: As for :func:`fitting.evaluate`.
        config: What the JSON files beside the weights say of the model: ``config.json``, and
            ``adapter_config.json`` under ``"adapter"``.
        whole: Whether a large stack stays one unit.

    Raises:
        ValueError: If a pattern matches nothing or the axes do not fit.
        TypeError: If ``axes`` is no dict of :class:`spectral_reg.MatrixAxes`.
    """
    config = config or {}
    composed, parts = compose(tensors, config.get("adapter", {}))
    composed = _with_groups(unfold_experts(composed), config)
    shapes = {name: tensor.shape for name, tensor in composed.items()}
    places = place_experts(shapes)
    labels = {name: {name, places[name].name if name in places else name} for name in shapes}
    check_patterns(layers or (), set().union(*labels.values()), "layers")
    argument = read_axes(axes, composed, [*composed])
    told = {n: t.stacked for n, t in composed.items() if t.stacked} | argument.of(composed)
    bare = _without_adapters(shapes)
    known = {bare[n]: Known(t.kind, t.groups, t.axes, t.wrapped) for n, t in composed.items()}
    bare_shapes = {bare[name]: shape for name, shape in shapes.items()}
    read = read_leaves(bare_shapes, known=known, told={bare[name]: t for name, t in told.items()})
    readings = {name: read[bare[name]] for name in shapes}
    asked = argument.asked_for({n: r.reason for n, r in readings.items() if r.axes})
    units = []
    skipped = {}
    measured: dict[Hashable, str] = {}
    for name, tensor in composed.items():
        reading = readings[name]
        unknown = reading.form is not None and not reading.form.kind
        no_matrix = "" if name in asked and not unknown else reading.reason
        wanted = layers is None or any(matches(n, p) for n in labels[name] for p in layers)
        reason = parts.get(name) or _reason_to_skip(tensor, wanted, no_matrix)
        if not reason and tensor.identity in measured:
            reason = f"the same tensor as {measured[tensor.identity]}"
        if reason:
            skipped[name] = (tensor.shape, reason)
            continue
        if tensor.identity is not None:
            measured[tensor.identity] = name
        if (form := reading.form) and form.kind:
            sources = [composed[source].read for source in form.sources]
            tensor = replace(tensor, read=partial(_made, form, sources), at=None)
        split = None
        if name not in told:
            reading, split = known_layout(bare[name], reading, bare_shapes, config)
        unit = _unit(name, tensor, reading, split, conv)
        if name in places:
            kind = "experts" if unit.kind == "dense" else unit.kind
            unit = replace(unit, name=places[name].name, place=places[name].number, kind=kind)
        units += [unit] if whole else one_by_one(unit)
    # The rows of one name together, as in a stack.
    first = {unit.name: number for number, unit in reversed([*enumerate(units)])}
    return Plan(tuple(sorted(units, key=lambda unit: first[unit.name])), skipped)


def unnamed_matrices(
    model: Any, skipped: Mapping[str, tuple[tuple[int, ...], str]]
) -> dict[str, sr.MatrixAxes]:
    """The axes of matrices that were all left out for their names, in a dict or file; or nothing.

    A file's names are bare, without a module.
    """
    if isinstance(model, (str, Path)):
        if any("/" in name for name in skipped):
            return {}
    elif not isinstance(model, Mapping) or not all(hasattr(v, "ndim") for v in model.values()):
        return {}
    by_name = {name for name, (_, reason) in skipped.items() if reason == NOT_A_NAME}
    return {name: sr.MatrixAxes() for name in by_name if len(skipped[name][0]) == 2}


def measured_values(
    tensors: Mapping[str, Tensor], skipped: Mapping[str, tuple[tuple[int, ...], str]]
) -> int:
    """How many values lie in tensors of two or more axes that were measured, alone or together."""
    parts = {name for name, (_, reason) in skipped.items() if reason.startswith("a part of")}
    quantized = {name for name in parts if "quantized" in skipped[name][1]}
    return sum(
        math.prod(tensor.shape)
        for name, tensor in tensors.items()
        if tensor.ndim >= 2 and (name not in skipped or name in parts - quantized)
    )


def _without_adapters(names: Iterable[str]) -> dict[str, str]:
    """The names as they were before adapters wrapped the layers, where that keeps them apart."""
    bare = {name: name.replace("/base_layer/", "/").replace("/base_layer/", "/") for name in names}
    count = Counter(bare.values())
    return {name: short if count[short] == 1 else name for name, short in bare.items()}


def _made(form: Form, reads: Sequence[Callable[[], np.ndarray]]) -> np.ndarray:
    values = [np.asarray(read(), dtype=np.float64) for read in reads]
    return np.asarray(make_weight(form, values))


def _with_groups(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors, convolutions with the groups that the configuration says."""
    grouped = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.groups == 1 and tensor.ndim > 2 and (groups := num_groups(name, config)) > 1:
            grouped[name] = replace(tensor, kind="conv", groups=groups)
    return grouped


def _reason_to_skip(tensor: Tensor, wanted: bool, no_matrix: str) -> str:
    if tensor.reason:
        return tensor.reason
    if no_matrix:
        return no_matrix
    if tensor.dtype in QUANTIZED or tensor.dtype.startswith("float8"):
        return f"of type {tensor.dtype}, as quantized weights are"
    if not _is_floating(tensor.dtype):
        return f"of type {tensor.dtype}"
    if 0 in tensor.shape:
        return "empty: its values are in another file"
    if not wanted:
        return "not among the layers asked for"
    return ""


def _is_floating(dtype: str) -> bool:
    try:
        return bool(jnp.issubdtype(np.dtype(getattr(ml_dtypes, dtype, dtype)), jnp.floating))
    except TypeError:
        return False


def _unit(
    name: str,
    tensor: Tensor,
    reading: LeafReading,
    split: Split | None,
    conv: str | sr.ConvOperator,
) -> Unit:
    axes = reading.axes or sr.MatrixAxes()
    if reading.doubt:
        axes = reading.doubt.axes
        warnings.warn(f"{reading.doubt.reason}; measured as the latter", stacklevel=4)
    names = part_names(axes)
    axes = axes._replace(parts=1)
    # A view of one number in the tensor's shape: the axes are checked before anything is read.
    _, _, num_window = arrange(name, np.broadcast_to(np.zeros((), np.bool_), tensor.shape), axes)
    if isinstance(conv, sr.ConvOperator) and num_window not in (0, len(conv.size)):
        raise ValueError(
            f"conv is conv_operator{conv.size} and the window of {name!r} has {num_window} axes; "
            f"expected {len(conv.size)}; leave it out with layers, or give its window in axes"
        )
    split = split or (Split(names) if names else None)
    low_rank = None
    if tensor.kind.startswith("lora"):
        low_rank = (tensor.shape[-2], tensor.shape[-1])
    return Unit(name, reading.kind, tensor, axes, conv, split, low_rank)
