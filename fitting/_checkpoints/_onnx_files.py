"""ONNX files: the initializers of a graph, and the operators that use them."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spectral_reg._from_torch import flax_places

from ._errors import missing_package, reading
from ._safetensors_files import read_bytes
from ._tensor import Tensor, in_memory, merge, transposed, without_values

ONNX = ".onnx"
KIND = "ONNX file"


class Use(NamedTuple):
    """What an operator makes of a weight, and which of the weight's axes Flax swaps."""

    kind: str
    leaf: str
    axes: tuple[int, ...]
    node: str
    groups: int = 1


def open_onnx(path: Path) -> dict[str, Tensor]:
    """Every initializer, and every constant that is a matrix, by its path in Flax.

    Raises:
        FileNotFoundError: If a file with values beside this one is missing.
        ValueError: If the file is damaged, or two tensors get the same path.
        ImportError: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_package(path, "onnx", "onnx") from error
    with reading(path, KIND), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of entries that onnx does not know
        model = onnx.load(str(path), load_external_data=False)
        named = []
        for graph in _graphs(model.graph):
            tensors = dict(_tensors(path, graph))
            uses = _uses(graph, tensors)
            nodes = [use.node for use in uses.values()]
            for name, tensor in tensors.items():
                use = uses.get(name)
                if use and nodes.count(use.node) > 1:
                    use = use._replace(node="")
                named.append(_flax_named(name, tensor, use))
        return merge(named)


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its conditions and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)


def _tensors(path: Path, graph: Any) -> Iterator[tuple[str, Tensor]]:
    for proto in graph.initializer:
        yield proto.name, _tensor(path, proto.name, proto)
    for sparse in graph.sparse_initializer:
        name, reason = sparse.values.name, "of a sparse layout"
        yield name, without_values(tuple(sparse.dims), "", origin=name, reason=reason)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and len(attribute.t.dims) >= 2:
                yield node.output[0], _tensor(path, node.output[0], attribute.t)


def _tensor(path: Path, name: str, proto: Any) -> Tensor:
    import onnx

    if proto.data_location != onnx.TensorProto.EXTERNAL:
        return in_memory(onnx.numpy_helper.to_array(proto), origin=name)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(proto.data_type))
    entries = {entry.key: entry.value for entry in proto.external_data}
    location, offset = Path(entries["location"]), int(entries.get("offset", 0))
    if location.is_absolute() or ".." in location.parts:
        raise ValueError(f"{name!r} is in '{location}', outside the file's folder")
    file = path.parent / location
    if not file.is_file():
        raise FileNotFoundError(f"{path.name} has values in {file.name}, which is not beside it")
    shape = tuple(proto.dims)
    num_bytes = math.prod(shape) * dtype.itemsize
    if not 0 <= offset <= file.stat().st_size - num_bytes:
        raise ValueError(f"{name!r} of {num_bytes} bytes does not lie in {file.name}")
    return Tensor(shape, dtype.name, partial(read_bytes, file, dtype.name, shape, offset), name)


def _uses(graph: Any, tensors: dict[str, Tensor]) -> dict[str, Use]:
    """What the first operator that uses a weight makes of it."""
    uses: dict[str, Use] = {}
    # The weight behind a value, and whether it is transposed on the way.
    weights = {name: (name, False) for name in tensors}
    for node in graph.node:
        for index, value in enumerate(node.input):
            name, swapped = weights.get(value, ("", False))
            if not name:
                continue
            if node.op_type in ("Identity", "Cast", "Transpose") and index == 0:
                is_swap = node.op_type == "Transpose" and tensors[name].ndim == 2
                weights[node.output[0]] = name, swapped ^ is_swap
            elif use := _use(node, index, tensors[name].ndim, swapped):
                uses.setdefault(name, use)
    return uses


def _use(node: Any, index: int, ndim: int, swapped: bool) -> Use | None:
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    as_is = tuple(range(ndim))
    other = (*as_is[:-2], *as_is[:-3:-1])
    match node.op_type, index:
        case ("MatMul" | "Gemm", 0 | 1) if ndim >= 2:
            # The weight of x W is [in, out], that of W x is [out, in].
            swapped ^= bool(attributes.get("transA" if index == 0 else "transB", 0)) ^ (index == 0)
            return Use("dense", "kernel", other if swapped else as_is, node.name)
        case "Conv", 1 if ndim >= 3:
            groups = attributes.get("group", 1)
            return Use("conv", "kernel", (*as_is[2:], 1, 0), node.name, groups)
        case "ConvTranspose", 1 if ndim >= 3:
            groups = attributes.get("group", 1)
            return Use("conv_transpose", "kernel", (*as_is[2:], 0, 1), node.name, groups)
        case "Gather", 0 if ndim == 2:
            return Use("embedding", "embedding", as_is, node.name)
        case (("LSTM" | "GRU"), (1 | 2)) if ndim == 3:
            leaf = "kernel" if index == 1 else "recurrent_kernel"
            return Use(node.op_type.lower(), leaf, other, f"{node.name}/{leaf}")
        case (("DequantizeLinear" | "MatMulInteger" | "ConvInteger" | "QLinearConv"), _):
            return Use("quantized", "", as_is, "")
        case _:
            return None


def _flax_named(name: str, tensor: Tensor, use: Use | None) -> tuple[str, Tensor]:
    if use is None or use.kind == "quantized":
        path, axes, _ = flax_places({name: tensor.shape})[name]
        quantized = f"part of a quantized layer, of type {tensor.dtype}"
        reason = tensor.reason or (quantized if use else "")
        return path, transposed(replace(tensor, reason=reason), axes)
    # Exporters that fold a transposition into a weight lose its name, but not the operator's.
    anonymous = name.startswith("onnx::") or name.isdecimal()
    module = name.removesuffix(".weight").replace(".", "/")
    if anonymous and use.node:
        module = use.node.removesuffix(f"/{use.leaf}").rpartition("/")[0] or use.node
    parts = [part for part in module.split("/") if part]
    described = replace(tensor, kind=use.kind, groups=use.groups)
    return "/".join((*parts, use.leaf)), transposed(described, use.axes)
