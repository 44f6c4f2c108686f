"""Weights that a file holds in several tensors: low-rank adapters and reparametrizations."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

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

Tensors = Mapping[str, Tensor]


class Composite(NamedTuple):
    """A weight, and the tensors that it is made of."""

    name: str
    tensor: Tensor
    sources: tuple[str, ...]


def compose(
    tensors: Tensors, adapter: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with those that composites are made of followed by the composites.

    Args:
        tensors: By path.
        adapter: What ``adapter_config.json`` says.

    Returns:
        All tensors, and for those that are part of another its name as a reason to skip them.
    """
    composites: dict[str, Composite] = {}
    for name in tensors:
        for composite in (
            *_low_rank(name, tensors, adapter),
            *_weight_norm(name, tensors),
            *_spectral_norm(name, tensors),
            *_pruned(name, tensors),
        ):
            composites[name] = composite
    composed: dict[str, Tensor] = {}
    reasons: dict[str, str] = {}
    for name, tensor in tensors.items():
        composed[name] = tensor
        if name in composites:
            composite = composites[name]
            identities = tuple(tensors[source].identity for source in composite.sources)
            identity = None if None in identities else identities
            composed[composite.name] = replace(composite.tensor, identity=identity)
            reasons |= dict.fromkeys(composite.sources, f"a part of {composite.name}")
    for name in tensors:
        known = name in reasons or tensors[name].reason
        if name.endswith("parametrizations/weight/original") and not known:
            reasons[name] = "reparametrized in a way that its names do not tell"
    return composed, reasons


def _low_rank(name: str, tensors: Tensors, adapter: Mapping[str, Any]) -> Iterator[Composite]:
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
    alpha = tensors.get("/".join(filter(None, (module, "alpha"))))
    read_alpha: Callable[[], Any] | None = alpha.read if alpha and not alpha.reason else None
    factor = 1.0 if first == "lora_a" else _factor(module, rank, adapter)
    kind = "lora" if factor is not None or read_alpha else "lora, alpha not known"
    read, product = (
        partial(how, A.read, B.read, flax, factor, read_alpha)
        for how in (_read_low_rank, _read_product)
    )
    joint = "/".join(filter(None, (module, "lora" + label)))
    sources = (name, other) if read_alpha is None else (name, other, f"{module}/alpha")
    tensor = Tensor((rows, cols), A.dtype, read, kind=kind, read_product=product)
    yield Composite(joint, tensor, sources)


def _factor(module: str, rank: int, adapter: Mapping[str, Any]) -> float | None:
    """Alpha / r, or alpha / sqrt(r) for rsLoRA, as PEFT has it; None where it does not say."""
    alpha = adapter.get("lora_alpha")
    for pattern, special in (adapter.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module.replace("/", ".")):
            alpha = special
    if not isinstance(alpha, (int, float)):
        return None
    return alpha / (rank**0.5 if adapter.get("use_rslora") else rank)


def _read_low_rank(
    read_a: Callable[[], np.ndarray],
    read_b: Callable[[], np.ndarray],
    flax: bool,
    factor: float | None,
    read_alpha: Callable[[], Any] | None,
) -> np.ndarray:
    """A matrix of r rows with the nonzero singular values of the product, which is never formed."""
    A, B, scale = _read_factors(read_a, read_b, flax, factor, read_alpha)
    if not (np.isfinite(A).all() and np.isfinite(B).all()):
        return np.full((A.shape[1],) * 2, np.nan)
    R_a, R_b = (np.asarray(np.linalg.qr(side, mode="r")) for side in (A, B.T))
    core: np.ndarray = R_a @ R_b.T
    return core * scale


def _read_product(*factors: Any) -> np.ndarray:
    """The product [in, out] as the model adds it."""
    A, B, scale = _read_factors(*factors)
    product: np.ndarray = (A * scale) @ B
    return product


def _read_factors(
    read_a: Callable[[], np.ndarray],
    read_b: Callable[[], np.ndarray],
    flax: bool,
    factor: float | None,
    read_alpha: Callable[[], Any] | None,
) -> tuple[np.ndarray, np.ndarray, float]:
    A, B = (np.asarray(read(), dtype=np.float64) for read in (read_a, read_b))
    if not flax:
        A, B = A.T, B.T
    A, B = A.reshape(-1, A.shape[-1]), B.reshape(-1, B.shape[-1])
    if read_alpha is not None:
        factor = float(read_alpha()) / A.shape[1]
    return A, B, 1.0 if factor is None else factor


def _weight_norm(name: str, tensors: Tensors) -> Iterator[Composite]:
    """Direction v and length g, in PyTorch's layout; the old names and the new ones."""
    for direction, length, end in (
        ("weight_v", "weight_g", ""),
        ("parametrizations/weight/original1", "parametrizations/weight/original0", ""),
    ):
        pair = _beside(name, direction, (length,), tensors)
        if not pair:
            continue
        v, g = tensors[name], tensors[pair[0]]
        if v.reason or g.reason or v.ndim < 2 or g.ndim not in (0, v.ndim):
            return
        read = partial(_read_weight_norm, v.read, g.read)
        yield _kernel(name.removesuffix(direction) + end, v, read, (name, *pair), tensors)


def _read_weight_norm(
    read_v: Callable[[], np.ndarray], read_g: Callable[[], np.ndarray]
) -> np.ndarray:
    v, g = (np.asarray(read(), dtype=np.float64) for read in (read_v, read_g))
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    norm = np.sqrt(np.sum(v**2, axis=axes, keepdims=True))
    return _flax_layout(v * (g / np.where(norm > 0, norm, 1.0)))


def _spectral_norm(name: str, tensors: Tensors) -> Iterator[Composite]:
    """The weight over its largest singular value, as the last power iteration has it."""
    for original, vectors in (
        ("weight_orig", ("weight_u", "weight_v")),
        (
            "parametrizations/weight/original",
            ("parametrizations/weight/0/_u", "parametrizations/weight/0/_v"),
        ),
    ):
        found = _beside(name, original, vectors, tensors)
        if found and tensors[name].ndim >= 2 and not tensors[name].reason:
            sources = (name, *found)
            read = partial(_read_spectral_norm, *(tensors[source].read for source in sources))
            stem = name.removesuffix(original)
            yield _kernel(stem, tensors[name], read, sources, tensors)


def _read_spectral_norm(
    read_weight: Callable[[], np.ndarray],
    read_u: Callable[[], np.ndarray],
    read_v: Callable[[], np.ndarray],
) -> np.ndarray:
    W, u, v = (np.asarray(read(), dtype=np.float64) for read in (read_weight, read_u, read_v))
    # Transposed convolutions have their outputs on the second axis, and u goes with the outputs.
    rows = W if W.size == u.size * v.size and W.shape[0] == u.size else np.moveaxis(W, 1, 0)
    largest = u @ rows.reshape(u.size, -1) @ v
    return _flax_layout(W / largest)


def _pruned(name: str, tensors: Tensors) -> Iterator[Composite]:
    found = _beside(name, "weight_orig", ("weight_mask",), tensors)
    if found and tensors[name].shape == tensors[found[0]].shape and tensors[name].ndim >= 2:
        read = partial(_read_masked, tensors[name].read, tensors[found[0]].read)
        stem = name.removesuffix("weight_orig")
        yield _kernel(stem, tensors[name], read, (name, *found), tensors)


def _read_masked(
    read_weight: Callable[[], np.ndarray], read_mask: Callable[[], np.ndarray]
) -> np.ndarray:
    return _flax_layout(read_weight() * read_mask())


def _beside(name: str, last: str, others: tuple[str, ...], tensors: Tensors) -> tuple[str, ...]:
    """The other tensors of a group of which this is the main one, or nothing if one is missing."""
    stem = name.removesuffix(last)
    if stem == name or (stem and not stem.endswith("/")):
        return ()
    found = tuple(stem + other for other in others)
    return found if all(other in tensors for other in found) else ()


def _kernel(
    stem: str,
    like: Tensor,
    read: Callable[[], np.ndarray],
    sources: tuple[str, ...],
    tensors: Tensors,
) -> Composite:
    """The weight of a module of PyTorch, as Flax names it and has its axes."""
    name = f"{stem}kernel" if f"{stem}kernel" not in tensors else f"{stem}composed/kernel"
    shape = (*like.shape[2:], like.shape[1], like.shape[0])
    tensor = Tensor(shape, like.dtype, read, "weight", kind=like.kind, groups=like.groups)
    return Composite(name, tensor, sources)


def _flax_layout(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(*range(2, weight.ndim), 1, 0)
