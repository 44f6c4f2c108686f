"""Quantized layers, whose stored numbers are not their weights."""

from collections.abc import Mapping
from dataclasses import replace

from ._tensor import Tensor

# What GPTQ, AWQ and bitsandbytes store beside or instead of a weight, and PyTorch beside one.
PARTS = (
    "qweight", "qzeros", "g_idx", "SCB", "absmax", "quant_map", "nested_absmax",
    "nested_quant_map", "weight_format", "weight_packed", "_packed_params",
)  # fmt: skip
SCALES = (
    ".weight_scale", ".weight_scale_inv", ".scale_weight", ".SCB", ".scales", ".scale",
    ".weight.absmax",
)  # fmt: skip
NARROW = ("int", "uint", "float8", "float4", "float6")


def mark_quantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the same names in the file, those of quantized layers with a reason."""
    marked = {}
    for name, tensor in tensors.items():
        reason = tensor.reason or _reason(name, tensor, tensors)
        marked[name] = replace(tensor, reason=reason)
    return marked


def _reason(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> str:
    module, _, last = name.rpartition(".")
    if (
        last in PARTS
        or ".quant_state." in name
        or (last == "scales" and f"{module}.qweight" in tensors)
    ):
        return f"part of a quantized layer ({last})"
    scales = next((module + end for end in SCALES if module + end in tensors), "")
    if scales and last == "weight" and tensor.dtype.startswith(NARROW):
        return f"quantized to {tensor.dtype}, with its scales in {scales!r}"
    return ""
