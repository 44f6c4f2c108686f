"""Live PyTorch models, whose layers say what they are. torch is never imported here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ._naming import flax_named
from ._quantized import read_quantized
from ._tensor import Tensor, transposed
from ._torch_tensors import find_state_dict, is_torch_tensor, list_tensors, torch_leaves

KINDS = {
    "Linear": "dense", "Conv1d": "conv", "Conv2d": "conv", "Conv3d": "conv",
    "ConvTranspose1d": "conv_transpose", "ConvTranspose2d": "conv_transpose",
    "ConvTranspose3d": "conv_transpose", "Embedding": "embedding", "EmbeddingBag": "embedding",
    "LSTM": "lstm", "LSTMCell": "lstm", "GRU": "gru", "GRUCell": "gru", "Bilinear": "bilinear",
    "LayerNorm": "norm", "RMSNorm": "norm",
}  # fmt: skip


def is_torch_module(value: Any) -> bool:
    """Whether a value is a torch.nn.Module."""
    return _is_a(value, "torch.nn.modules.module", "Module")


def is_torch_state_dict(value: Any) -> bool:
    """Whether a value is a container that holds PyTorch tensors, in any nesting."""
    return any(is_torch_tensor(leaf) for _, leaf in torch_leaves(value, (), set()))


def open_torch_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of a state dict, or of a checkpoint that holds one, by its path in Flax."""
    weights, others = list_tensors(state_dict, find_state_dict(state_dict))
    return flax_named(read_quantized(weights, {})) | others


def open_torch_module(module: Any) -> dict[str, Tensor]:
    """Every tensor of a model by its path in Flax, with the kind of its layer."""
    weights, others = list_tensors(dict(module.state_dict()), ())
    layers = dict(module.named_modules())
    described = {}
    for name, tensor in read_quantized(weights, {}).items():
        parent, _, last = name.rpartition(".")
        layer = layers.get(parent)
        kind = next((KINDS[base.__name__] for base in _torch_bases(layer)), "")
        groups = getattr(layer, "groups", 1) if kind.startswith("conv") else 1
        tensor = replace(tensor, kind=kind, groups=groups)
        if last == "weight" and _is_a(layer, "transformers.pytorch_utils", "Conv1D"):
            # GPT-2's layer keeps [in, out]; flax_named expects [out, in], as torch has it.
            tensor = transposed(replace(tensor, kind="dense"), (1, 0))
        described[name] = tensor
    return flax_named(described) | others


def _torch_bases(layer: Any) -> list[type]:
    return [
        base
        for base in type(layer).__mro__
        if base.__module__.startswith("torch.nn.") and base.__name__ in KINDS
    ]


def _is_a(value: Any, module: str, name: str) -> bool:
    return any((b.__module__, b.__name__) == (module, name) for b in type(value).__mro__)
