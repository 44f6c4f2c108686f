"""Quantized layers, whose stored numbers are not their weights, read as weights."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ._packed import MXFP4, PackedIntegers, ScaledFloats
from ._tensor import Tensor, places

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
# What a scale of narrow floats is called, after the name of the weight or of its layer.
FLOAT_SCALES = ("{name}_scale_inv", "{name}_scale", "{layer}.scale_weight")
FLOATS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
# Of DeepSeek's FP8, where no configuration says another.
BLOCK = (128, 128)
# Other libraries' packings have names in common with these.
UNPACKED = ("W_q", "_data", "_blocks", "_scales")

Tensors = Mapping[str, Tensor]


class Whole(NamedTuple):
    """A weight by its name in the file, and the stored tensors that it is made of."""

    name: str
    tensor: Tensor
    sources: tuple[str, ...]


def read_quantized(tensors: Tensors, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by the same names in the file, with the weights of quantized layers among them.

    Args:
        tensors: By their names in the file.
        settings: What a configuration says of the quantization; see :func:`quantization_settings`.

    Returns:
        A weight that can be dequantized stands before the first of its parts, and has its name, or
        that of ``weight`` in its layer; parts, and what cannot be read, have a reason.
    """
    wholes: dict[str, Whole] = {}
    parts: dict[str, str] = {}
    for name in tensors:
        for whole in _wholes(name, tensors, settings):
            wholes[name] = whole
            reason = f"a part of the quantized weight {whole.name}"
            parts |= dict.fromkeys(whole.sources, reason)
    read: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in wholes:
            read[wholes[name].name] = wholes[name].tensor
        if name not in read:
            reason = tensor.reason or parts.get(name) or _reason(name, tensor, tensors)
            read[name] = replace(tensor, reason=reason)
    return read


def quantization_settings(folder: Path) -> dict[str, Any]:
    """What ``quantization_config`` of a folder's ``config.json`` says, or its own file.

    Of a damaged or missing file nothing is said.
    """
    for file, key in (("config.json", "quantization_config"), ("quantize_config.json", None)):
        try:
            content = json.loads((folder / file).read_bytes())
            found = content[key] if key else content
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _wholes(name: str, tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[Whole]:
    if tensors[name].reason:
        return
    if tensors[name].dtype in FLOATS and tensors[name].ndim >= 2:
        yield from _scaled_floats(name, tensors, settings)
    elif name.endswith("_blocks"):
        yield from _mxfp4(name, tensors)
    elif name.rpartition(".")[2] == "qweight":
        yield from _packed_integers(name, tensors, settings)


def _scaled_floats(name: str, tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[Whole]:
    codes, layer = tensors[name], name.rpartition(".")[0]
    scales = (end.format(name=name, layer=layer) for end in FLOAT_SCALES)
    scale = next((other for other in scales if other in tensors), None)
    if scale is None or tensors[scale].reason:
        return
    grid, sides = tensors[scale].shape, codes.shape[-2:]
    block = _block(sides, grid[-2:] if len(grid) >= 2 else (1, math.prod(grid)), settings)
    if len(grid) == 1 and math.prod(grid) == sides[0] > 1:  # a scale for each row
        return
    if block is None or (math.prod(grid) > 1 and grid[:-2] != codes.shape[:-2]):
        return
    one = math.prod(grid[-2:]) == 1
    how = "a scale" if one else f"scales of {block[0]} x {block[1]} blocks"
    label = f"{codes.dtype}, {how}"
    yield Whole(name, _of_scaled_floats(codes, tensors[scale], block, label, name), (scale,))


def _of_scaled_floats(
    codes: Tensor, scales: Tensor, block: tuple[int, int], label: str, origin: str
) -> Tensor:
    weight = _weight(codes.shape, ScaledFloats(codes.read, scales.read, block), label, origin)
    each = partial(_of_scaled_floats, block=block, label=label, origin=origin)
    return replace(weight, at=places(each, codes, scales))


def _block(
    sides: tuple[int, ...], grid: tuple[int, ...], settings: Mapping[str, Any]
) -> tuple[int, int] | None:
    """The sides of the blocks of a grid of scales; None where they cannot be told."""
    told = settings.get("weight_block_size") or BLOCK
    block = []
    for side, number, said in zip(sides, grid, told, strict=True):
        if not isinstance(said, int) or said < 1:
            return None
        if number == 1:
            block.append(side)
        elif -(-side // said) == number:
            block.append(said)
        elif side % number == 0:
            block.append(side // number)
        else:
            return None
    return block[0], block[1]


def _mxfp4(name: str, tensors: Tensors) -> Iterator[Whole]:
    stem = name.removesuffix("_blocks")
    blocks, scales = tensors[name], tensors.get(f"{stem}_scales")
    if scales is None or scales.reason or blocks.ndim < 3 or blocks.shape[:-1] != scales.shape:
        return
    if (blocks.dtype, blocks.shape[-1]) != ("uint8", 16) or stem in tensors:
        return
    if scales.dtype not in ("uint8", "float8_e8m0fnu"):
        return
    yield Whole(stem, _of_mxfp4(blocks, scales, stem), (name, f"{stem}_scales"))


def _of_mxfp4(blocks: Tensor, scales: Tensor, origin: str) -> Tensor:
    *lead, rows, groups, _ = blocks.shape
    shape = (*lead, 32 * groups, rows)
    weight = _weight(shape, MXFP4(blocks.read, scales.read), "MXFP4, blocks of 32", origin)
    at = places(partial(_of_mxfp4, origin=origin), blocks, scales) if lead else None
    return replace(weight, at=at)


def _packed_integers(name: str, tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[Whole]:
    layer = name.removesuffix("qweight")
    codes, zeros, scales = (tensors.get(layer + end) for end in ("qweight", "qzeros", "scales"))
    groups = tensors.get(layer + "g_idx")
    if codes is None or zeros is None or scales is None or f"{layer}weight" in tensors:
        return
    if any(part.reason or part.ndim != 2 for part in (codes, zeros, scales)):
        return
    if codes.dtype != "int32" or zeros.dtype != "int32":
        return
    num_groups, num_outputs = scales.shape
    if zeros.shape != (num_groups, num_outputs // 8) or num_outputs % 8:
        return  # of another number of bits
    awq = codes.shape[1] * 8 == num_outputs
    if not awq and codes.shape[1] != num_outputs:
        return
    num_inputs = codes.shape[0] * (1 if awq else 8)
    if groups is not None and (awq or groups.reason or groups.shape != (num_inputs,)):
        return
    size = -(-num_inputs // num_groups)
    if settings.get("version", "gemm") not in ("gemm", "GEMM") and awq:
        return  # its other kernels have other orders
    offset = 0 if awq or settings.get("checkpoint_format") == "gptq_v2" else 1
    packed = PackedIntegers(
        codes.read, zeros.read, scales.read, groups.read if groups else None, awq, offset
    )
    label = f"{'AWQ' if awq else 'GPTQ'} int4, groups of {size}"
    tensor = _weight((num_outputs, num_inputs), packed, label, f"{layer}weight")
    ends = ("qweight", "qzeros", "scales", *(("g_idx",) if groups else ()))
    yield Whole(f"{layer}weight", tensor, tuple(layer + end for end in ends))


def _weight(shape: tuple[int, ...], packed: Any, label: str, origin: str) -> Tensor:
    return Tensor(
        shape, "float32", packed.values, origin, quantization=label, read_steps=packed.steps
    )


def _reason(name: str, tensor: Tensor, tensors: Tensors) -> str:
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
    if tensor.dtype.startswith(("int", "uint")) and tensor.ndim and last.endswith(UNPACKED):
        return f"quantized: {tensor.dtype} in a packing that is not known"
    return ""
