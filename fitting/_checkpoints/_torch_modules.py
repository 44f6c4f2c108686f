"""Live PyTorch models, whose layers say what they are. torch is never imported here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spectral_reg._from_torch import strip_prefixes

from ._naming import flax_named
from ._quantized import read_quantized
from ._tensor import Tensor
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
    layers = dict(module.named_modules(remove_duplicate=False))
    computed = {
        f"{name}.": f"{name}.".replace("parametrizations.", "").removesuffix(".")
        for name, layer in layers.items()
        if _is_a(layer, "torch.nn.utils.parametrize", "ParametrizationList")
    }
    state_dict: dict[str, Any] = {}
    parts: dict[str, str] = {}
    made: dict[Any, Any] = {}
    for name, value in module.state_dict().items():
        if part := next((part for part in computed if name.startswith(part)), ""):
            parts[name] = computed[part]
            if computed[part] not in state_dict:
                layer = layers[part.removesuffix(".")]
                made[layer] = made[layer] if layer in made else _computed(layer)
                state_dict[computed[part]] = made[layer]
        state_dict[name] = value
    if not state_dict:
        raise ValueError(
            f"model_or_path is of type {type(module).__name__}, with no parameter or buffer; "
            "expected a model with weights"
        )
    weights, others = list_tensors(state_dict, ())
    described = {}
    for name, tensor in read_quantized(weights, {}).items():
        layer = layers.get(name.rpartition(".")[0])
        kind = next((KINDS[base.__name__] for base in _torch_bases(layer)), "")
        groups = getattr(layer, "groups", 1) if kind.startswith("conv") else 1
        reason = f"a part of {parts[name]}" if name in parts else tensor.reason
        described[name] = replace(tensor, kind=kind, groups=groups, reason=reason)
    return flax_named(described) | others


def live_adapters(model: Any) -> dict[str, dict[str, Any]]:
    """What the layers of PEFT in a live model say of their adapters, by layer and adapter."""
    if not is_torch_module(model):
        return {}
    found: dict[str, dict[str, Any]] = {"scaling": {}, "num_experts": {}}
    for name, layer in model.named_modules():
        scaling = getattr(layer, "scaling", None)
        if hasattr(layer, "lora_A") and isinstance(scaling, dict):
            (short,) = strip_prefixes({f"{name}.scaling": layer})
            path = short.removesuffix(".scaling").replace(".", "/")
            ranks = getattr(layer, "ranknum", {})  # of AdaLoRA, which divides by it when it runs
            for adapter, factor in scaling.items():
                if adapter in ranks:
                    factor /= float(ranks[adapter]) + 1e-5
                found["scaling"][f"{path}/{adapter}"] = factor
                found["num_experts"][f"{path}/{adapter}"] = getattr(layer, "num_experts", 1)
    return found


def _computed(parametrization: Any) -> Any:
    """The tensor that a parametrization makes of its own, which training would change."""
    modes = [(module, module.training) for module in parametrization.modules()]
    parametrization.eval()
    try:
        return parametrization().detach()
    finally:
        for module, mode in modes:
            module.training = mode


def _torch_bases(layer: Any) -> list[type]:
    return [
        base
        for base in type(layer).__mro__
        if base.__module__.startswith("torch.nn.") and base.__name__ in KINDS
    ]


def _is_a(value: Any, module: str, name: str) -> bool:
    return any((b.__module__, b.__name__) == (module, name) for b in type(value).__mro__)
