"""What each tensor of a model is: a weight to measure and how it is laid out, or why not."""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

import spectral_reg as sr
from spectral_reg._axes import Axes, arrange, resolve_axes
from spectral_reg._trees import MATRIX_NAMES, check_patterns, matches

from .._checkpoints import Tensor
from ._composites import compose
from ._fused import split_attention, split_gates
from ._unit import Split, Unit

# Weights under names of their own, beside those of sr.is_layer_matrix. These are [out, in]:
TORCH_MATRICES = re.compile(
    r"in_proj_weight|[qkv]_proj_weight|weight_orig|weight_(ih|hh|hr)(_l\d+)?(_reverse)?"
)
OTHER_MATRICES = ("recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "text_projection")
EXPERTS = re.compile(r"(^|/)(\w*_)?experts?(/|$)")
EXPERT_MATRICES = re.compile(r"(gate_|up_|down_)+proj|w\d|w[io](_\d)?|(up|down|gate)")
NOT_A_NAME = "its name is not that of a weight matrix"
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
) -> Plan:
    """Decides for every tensor, from its name and shape alone.

    Args:
        tensors: From :func:`open_checkpoint`.
        conv: As for :func:`fitting.evaluate`.
        layers: As for :func:`fitting.evaluate`.
        axes: As for :func:`fitting.evaluate`.
        config: What the JSON files beside the weights say of the model: ``config.json``, and
            ``adapter_config.json`` under ``"adapter"``.

    Raises:
        ValueError: If a pattern matches nothing or the axes do not fit.
        TypeError: If ``axes`` is no dict of :class:`spectral_reg.MatrixAxes`.
    """
    config = config or {}
    composed, parts = compose(tensors, config.get("adapter", {}))
    shapes = {name: tensor.shape for name, tensor in composed.items()}
    check_patterns(layers or (), shapes, "layers")
    resolved = resolve_axes(composed, composed, axes)
    given = {name for name in composed if any(matches(name, pattern) for pattern in axes or ())}
    units = []
    skipped = {}
    measured: dict[Hashable, str] = {}
    for name, tensor in composed.items():
        reason = parts.get(name) or _reason_to_skip(name, tensor, layers, name in given)
        if not reason and tensor.identity in measured:
            reason = f"the same tensor as {measured[tensor.identity]}"
        if reason:
            skipped[name] = (tensor.shape, reason)
            continue
        if tensor.identity is not None:
            measured[tensor.identity] = name
        chosen = resolved[name]
        if name not in given:
            chosen = _known_axes(name, tensor) or chosen
        units.append(_unit(name, tensor, chosen, conv, shapes, config))
    return Plan(tuple(units), skipped)


def _reason_to_skip(name: str, tensor: Tensor, layers: Sequence[str] | None, given: bool) -> str:
    if tensor.reason:
        return tensor.reason
    if tensor.ndim < 2:
        return "a scalar or a vector"
    if not given and tensor.kind == "norm":
        return "the scale of a normalization"
    if not given and not _is_matrix(name, tensor):
        return NOT_A_NAME
    if tensor.dtype in QUANTIZED or tensor.dtype.startswith("float8"):
        return f"of type {tensor.dtype}, as quantized weights are"
    if not _is_floating(tensor.dtype):
        return f"of type {tensor.dtype}"
    if 0 in tensor.shape:
        return "empty"
    if layers is not None and not any(matches(name, pattern) for pattern in layers):
        return "not among the layers asked for"
    return ""


def _is_floating(dtype: str) -> bool:
    try:
        return bool(jnp.issubdtype(np.dtype(getattr(ml_dtypes, dtype, dtype)), jnp.floating))
    except TypeError:
        return False


def _is_matrix(name: str, tensor: Tensor) -> bool:
    *parents, last = name.split("/")
    if parents and parents[-1].endswith("bias"):
        return False  # T5's table of biases by distance is stored as an embedding
    if tensor.kind.startswith("lora") or (tensor.kind and last in MATRIX_NAMES):
        return True
    if sr.is_layer_matrix(name, tensor) or last in OTHER_MATRICES:
        return True
    if TORCH_MATRICES.fullmatch(last):
        return True
    in_experts = EXPERTS.search("/".join(parents)) is not None
    return in_experts and tensor.ndim == 3 and EXPERT_MATRICES.fullmatch(last) is not None


def _known_axes(name: str, tensor: Tensor) -> sr.MatrixAxes | None:
    """The axes of layouts that sr.MatrixAxes does not list, or None."""
    *parents, last = ["", *name.split("/")]
    ndim = tensor.ndim
    window = tuple(range(ndim - 2))
    from_torch = tensor.origin.endswith("weight") and last == "kernel"
    if tensor.axes or tensor.kind == "bilinear":
        return tensor.axes or sr.MatrixAxes()
    if last == "depthwise_kernel":
        return sr.MatrixAxes(rows=window, cols=(-2, -1))
    if TORCH_MATRICES.fullmatch(last):
        return sr.MatrixAxes(rows=1, cols=0, window=tuple(range(2, ndim)))
    if tensor.kind == "conv_transpose" and tensor.groups > 1:
        # [*window, in, out / groups]: here the groups share out the inputs.
        return sr.MatrixAxes(rows=-1, cols=-2, window=window, groups=tensor.groups)
    if tensor.kind.startswith("conv"):
        # Of a depthwise kernel the groups would be columns; all of it is one matrix.
        groups = tensor.groups if tensor.shape[-2] > 1 else 1
        return sr.MatrixAxes(window=window, groups=groups)
    if from_torch and ndim == 3 and not tensor.kind:
        if EXPERTS.search("/".join(parents)):
            return sr.MatrixAxes(rows=0, cols=1)  # [experts, out, in], read as a convolution
        return sr.MatrixAxes(window=(0,))
    if parents[-1] == "attention_output" and ndim >= 3:
        return sr.MatrixAxes(rows=(-3, -2), cols=-1)
    return None


def _unit(
    name: str,
    tensor: Tensor,
    axes: sr.MatrixAxes,
    conv: str | sr.ConvOperator,
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
) -> Unit:
    # A view of one number in the tensor's shape: the axes are checked before anything is read.
    weight, num_batch, num_window = arrange(
        name, np.broadcast_to(np.zeros((), np.bool_), tensor.shape), axes
    )
    if isinstance(conv, sr.ConvOperator) and num_window not in (0, len(conv.size)):
        raise ValueError(
            f"conv_operator{conv.size} is for a window of {len(conv.size)} axes, but {name!r} has "
            f"one of {num_window}; leave it out with layers, or give its window in axes"
        )
    shape = (weight.shape[-2], weight.shape[-1])
    kind, split = _kind_and_split(name, tensor, shape, num_window > 0, shapes, config)
    if not kind:
        kind = "stack" if num_batch else "dense"
    low_rank = None
    if tensor.kind.startswith("lora"):
        low_rank = (tensor.shape[-2], tensor.shape[-1])
    return Unit(name, kind, tensor, axes, conv, split, low_rank)


def _kind_and_split(
    name: str,
    tensor: Tensor,
    shape: tuple[int, int],
    is_convolution: bool,
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
) -> tuple[str, Split | None]:
    kind, split = split_gates(name, shape, shapes, tensor.kind)
    if kind:
        return kind, split
    if is_convolution:
        return tensor.kind or "conv", None
    if tensor.kind not in ("", "dense"):
        return tensor.kind, None
    if tensor.ndim == 2:
        kind, split = split_attention(name, shape, shapes, config)
        if kind:
            return kind, split
    if "embedding" in name.rsplit("/", 1)[-1]:
        return "embedding", None
    return ("experts" if tensor.ndim > 2 and EXPERTS.search(name) else ""), None
