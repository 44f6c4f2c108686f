"""Adapters: what fine-tuning adds to a weight, as PEFT and others store it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import spectral_reg as sr

from .._checkpoints import Tensor

# PEFT with and without the adapter's name, embeddings, Kohya and diffusers, Flax.
LORA = re.compile(
    r"(?P<module>.*?)/?(?P<first>lora_A|lora_embedding_A|lora_down|lora_a|lora/down)"
    r"(?P<adapter>/(?!kernel$|weight$|embedding$|value$)[^/]+)?(?P<leaf>/kernel|/weight)?"
)
SECOND = {
    "lora_A": "lora_B", "lora_embedding_A": "lora_embedding_B", "lora_down": "lora_up",
    "lora_a": "lora_b", "lora/down": "lora/up",
}  # fmt: skip
# What other kinds store: packed, or factors of a product of their own.
OTHER_KINDS = {
    "oft_R": "OFT", "boft_R": "BOFT", "boft_s": "BOFT", "hra_u": "HRA", "ia3_l": "IA3",
    "hada_w1_a": "LoHa", "hada_w1_b": "LoHa", "hada_w2_a": "LoHa", "hada_w2_b": "LoHa",
    "hada_t1": "LoHa", "hada_t2": "LoHa", "lokr_w1": "LoKr", "lokr_w1_a": "LoKr",
    "lokr_w1_b": "LoKr", "lokr_w2": "LoKr", "lokr_w2_a": "LoKr", "lokr_w2_b": "LoKr",
    "lokr_t2": "LoKr", "vera_A": "VeRA", "vera_B": "VeRA", "vera_lambda_b": "VeRA",
    "vera_lambda_d": "VeRA",
}  # fmt: skip
# What stands beside the pair of a low-rank adapter, and makes it one of another kind.
BESIDE = {"lora_magnitude_vector": "DoRA", "lora_magnitude": "DoRA", "lora_E": "AdaLoRA"}
DIAGONAL = "lora_E"
# What PEFT adds to AdaLoRA's rank before it divides by it.
RANK_OFFSET = 1e-5
# A pair that holds the products of all experts.
OF_EXPERTS = re.compile(r"(^|/)experts(/base_layer)*/lora_(A|B)/")

Tensors = Mapping[str, Tensor]


class Composite(NamedTuple):
    """A weight, and the tensors that it is made of."""

    name: str
    tensor: Tensor
    sources: tuple[str, ...]


def adapter_reason(name: str) -> str:
    """Why a tensor of an adapter is not measured by itself; empty if it is none of those."""
    if OF_EXPERTS.search(name):
        return "of an adapter of stacked experts, and nothing says of how many"
    for part in name.split("/"):
        if part in OTHER_KINDS:
            return f"of an adapter of kind {OTHER_KINDS[part]}, whose numbers are no weight matrix"
        if part in BESIDE:
            return f"of an adapter of kind {BESIDE[part]}: the product alone is measured"
    return ""


def low_rank(name: str, tensors: Tensors, adapter: Mapping[str, Any]) -> Iterator[Composite]:
    """The product of the pair of which this is the first, times its scale.

    Args:
        name: The path.
        tensors: By path.
        adapter: What ``adapter_config.json`` says; of a live model the ``scaling`` of each adapter
            by its path, and the ``num_experts`` of those of stacked parameters.
    """
    match = LORA.fullmatch(name)
    if not match:
        return
    module, first, last = match["module"], match["first"], match["leaf"] or ""
    label = match["adapter"] or ""
    other = "/".join(filter(None, (module, SECOND[first] + label + last)))
    A, B = tensors[name], tensors.get(other)
    if B is None or A.reason or B.reason or A.ndim < 2 or B.ndim < 2:
        return
    # lora_a and what flax_path knows are [in, r] and [r, out]; the rest is PyTorch's, [r, in].
    flax = first == "lora_a" or last == "/kernel"
    if not flax and A.ndim > 2:
        return
    shape_a, shape_b = (A.shape, B.shape) if flax else (A.shape[::-1], B.shape[::-1])
    rank = shape_a[-1]
    if shape_b[-2] != rank or np.prod(shape_b[:-2]) != 1:
        return
    rows, cols = int(np.prod(shape_a[:-1])), shape_b[-1]
    num_experts = _num_experts(module, label, rank, adapter)
    if num_experts is None:
        return
    rank //= num_experts
    alpha = tensors.get("/".join(filter(None, (module, "alpha"))))
    read_alpha: Callable[[], Any] | None = alpha.read if alpha and not alpha.reason else None
    sources = (name, other) if read_alpha is None else (name, other, f"{module}/alpha")
    beside = "/".join(filter(None, (module, DIAGONAL + label)))
    diagonal = tensors.get(beside)
    if diagonal is not None and (diagonal.reason or diagonal.shape != (rank, 1)):
        return
    factor: float | None = 1.0
    if first != "lora_a":
        factor = _factor(module, label, rank, adapter, has_diagonal=diagonal is not None)
    read_diagonal = None
    if diagonal is not None:
        sources, read_diagonal = (*sources, beside), diagonal.read
    kind = "lora" if factor is not None or read_alpha else "lora, alpha not known"
    pair = _Pair(A.read, B.read, read_diagonal, flax, factor, read_alpha, num_experts)
    joint = "/".join(filter(None, (module, "lora" + label)))
    reason = "" if rank else "an adapter of rank 0: it adds nothing"
    tensor = Tensor(
        (rows, cols), A.dtype, pair.core, reason=reason, kind=kind, read_product=pair.product
    )
    if num_experts > 1:
        axes = sr.MatrixAxes()
        tensor = replace(tensor, shape=(num_experts, rows, cols), axes=axes, read_product=None)
    yield Composite(joint, tensor, sources)


def _num_experts(module: str, label: str, rank: int, adapter: Mapping[str, Any]) -> int | None:
    """How many products a pair holds, and 1 for a plain one; None where nothing says so.

    PEFT's ``target_parameters`` are stacks of weights that lie in their module as they are.
    """
    live = adapter.get("num_experts", {}).get(module + label)
    if live:
        return live if rank % live == 0 else None
    parts = [part for part in module.split("/") if part != "base_layer"]
    targets = (target.split(".")[:-1] for target in adapter.get("target_parameters") or ())
    if not any(target and parts[-len(target) :] == target for target in targets):
        return None if parts[-1:] == ["experts"] else 1
    one = _by_pattern(module, adapter, "rank_pattern", adapter.get("r"))
    return rank // one if isinstance(one, int) and one > 0 and rank % one == 0 else None


def _by_pattern(module: str, adapter: Mapping[str, Any], patterns: str, default: Any) -> Any:
    """What the first pattern that fits says, as PEFT's ``get_pattern_key`` has it."""
    name = module.replace("/", ".").removeprefix("base_model.model.")
    for pattern, special in (adapter.get(patterns) or {}).items():
        # The files' names lose what wraps the whole model, which a pattern may begin with.
        if any(re.match(rf"(.*\.)?({pattern})$", known) for known in (name, f"model.{name}")):
            return special
    return default


def _factor(
    module: str, label: str, rank: int, adapter: Mapping[str, Any], *, has_diagonal: bool
) -> float | None:
    """What PEFT multiplies the product by; None where nothing says it.

    Alpha / r, alpha / sqrt(r) for rsLoRA, and for AdaLoRA alpha over the rank that it began with.
    """
    scaling = adapter.get("scaling", {}).get(module + label)
    if scaling is not None:
        return float(scaling)
    alpha = _by_pattern(module, adapter, "alpha_pattern", adapter.get("lora_alpha"))
    if not isinstance(alpha, (int, float)):
        return None
    if has_diagonal:
        first = adapter.get("init_r")
        if not isinstance(first, int):
            return None
        return (alpha if alpha > 0 else first) / (first + RANK_OFFSET)
    return alpha / (rank**0.5 if adapter.get("use_rslora") else rank) if rank else 0.0


class _Pair(NamedTuple):
    """Where a low-rank product is read from; its scale is ``factor`` or alpha / r."""

    read_a: Callable[[], np.ndarray]
    read_b: Callable[[], np.ndarray]
    read_diagonal: Callable[[], np.ndarray] | None
    flax: bool
    factor: float | None
    read_alpha: Callable[[], Any] | None
    num_experts: int

    def core(self) -> np.ndarray:
        """A matrix of r rows with the nonzero singular values of the product, never formed."""
        A, B, scale = self._factors()
        if self.num_experts > 1:
            # [r of one expert after the other] and [experts in turns], as PEFT has them.
            firsts = A.reshape(len(A), self.num_experts, -1).swapaxes(0, 1)
            seconds = B.reshape(-1, self.num_experts, B.shape[1]).swapaxes(0, 1)
            return np.stack([_core(a, b) * scale for a, b in zip(firsts, seconds, strict=True)])
        return _core(A, B) * scale

    def product(self) -> np.ndarray:
        """The product [in, out] as the model adds it."""
        A, B, scale = self._factors()
        product: np.ndarray = (A * scale) @ B
        return product

    def _factors(self) -> tuple[np.ndarray, np.ndarray, float]:
        """[in, r], [r, out] and the scale."""
        A, B = (np.asarray(read(), dtype=np.float64) for read in (self.read_a, self.read_b))
        if not self.flax:
            A, B = A.T, B.T
        A, B = A.reshape(-1, A.shape[-1]), B.reshape(-1, B.shape[-1])
        if self.read_diagonal is not None:
            A = A * np.asarray(self.read_diagonal(), dtype=np.float64).ravel()
        factor = self.factor
        if self.read_alpha is not None:
            factor = float(self.read_alpha()) * self.num_experts / A.shape[1]
        return A, B, 1.0 if factor is None else factor


def _core(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    if not (np.isfinite(A).all() and np.isfinite(B).all()):
        return np.full((A.shape[1],) * 2, np.nan)
    R_a, R_b = (np.asarray(np.linalg.qr(side, mode="r")) for side in (A, B.T))
    core: np.ndarray = R_a @ R_b.T
    return core
