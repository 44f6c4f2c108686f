"""Weights that a file holds in several tensors, such as reparametrized ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .._checkpoints import Tensor
from ._adapters import Composite, adapter_reason, low_rank

Tensors = Mapping[str, Tensor]


def compose(
    tensors: Tensors, adapter: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with those that composites are made of followed by the composites.

    Args:
        tensors: By path.
        adapter: What ``adapter_config.json`` says, or a live model; see :func:`low_rank`.

    Returns:
        All tensors, and for those that are part of another its name as a reason to skip them.
    """
    composites: dict[str, Composite] = {}
    for name in tensors:
        for composite in (
            *low_rank(name, tensors, adapter),
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
        elif not known and (reason := adapter_reason(name)):
            reasons[name] = reason
    return composed, reasons


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
