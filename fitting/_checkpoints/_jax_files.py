"""Pytrees in memory, Flax msgpack files and Orbax folders."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

import spectral_reg as sr
from spectral_reg._axes_argument import partition_names
from spectral_reg._default_axes import Known
from spectral_reg._live_layers import known_layers

from ._errors import CheckpointError, missing_package, reading
from ._naming import is_average, is_training_state, keys_in_order, natural_order
from ._tensor import Tensor, in_memory, merge, reason_of_type, without_values

MSGPACK = ".msgpack"
CHUNKED = "__msgpack_chunked_array__"
# The codes by which Flax tells arrays and NumPy scalars from other extensions of msgpack.
NDARRAY, SCALAR = 1, 3
ORBAX_METADATA = "_METADATA"


def open_pytree(tree: Any) -> dict[str, Tensor]:
    """Every leaf of a tree by its path; those that are no arrays with a reason.

    With it comes what the type of its layer says, and what Flax's metadata say of its axes.
    """
    tensors = {sr.path_name(path): _leaf(leaf) for path, leaf in _leaves(tree, ())}
    known = known_layers(tree, {name: tensor.shape for name, tensor in tensors.items()})
    stacked = partition_names(tree)
    return _listed(
        (
            sr.path_name(path).split("/"),
            _described(_leaf(leaf), known.get(sr.path_name(path)), stacked.get(sr.path_name(path))),
        )
        for path, leaf in _leaves(tree, ())
    )


def _leaves(tree: Any, prefix: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves by their key paths, dicts in the order of the model; JAX takes them sorted."""
    if isinstance(tree, Mapping):
        if len(types := {type(key).__name__ for key in tree}) > 1:
            raise ValueError(
                f"model_or_path has a dict with keys of the types {', '.join(sorted(types))}, such "
                f"as {[*tree][:3]}; expected one type, which JAX can sort"
            )
        for key in keys_in_order(tree):
            yield from _leaves(tree[key], (*prefix, jax.tree_util.DictKey(key)))
        return
    for path, node in jax.tree.leaves_with_path(tree, is_leaf=lambda n: isinstance(n, Mapping)):
        if isinstance(node, Mapping):
            yield from _leaves(node, prefix + path)
        else:
            yield prefix + path, node


def _described(tensor: Tensor, known: Known | None, stacked: sr.Stacked | None) -> Tensor:
    tensor = replace(tensor, stacked=stacked)
    if known is None:
        return tensor
    return replace(
        tensor, kind=known.kind, groups=known.groups, axes=known.axes, wrapped=known.wrapped
    )


def _listed(tensors: Iterable[tuple[list[str], Tensor]]) -> dict[str, Tensor]:
    tensors = list(tensors)
    first = {keys[0] for keys, _ in tensors}
    named = []
    for keys, tensor in tensors:
        if not tensor.reason and is_training_state(tuple(keys)):
            tensor = replace(tensor, reason="part of an optimizer's state, not a weight")
        if not tensor.reason and is_average(tuple(keys), first):
            tensor = replace(tensor, reason=f"a moving average of the weights, under {keys[0]!r}")
        named.append(("/".join(keys), tensor))
    return merge(named)


def _leaf(leaf: Any) -> Tensor:
    if isinstance(leaf, np.ndarray | np.generic):
        array = np.asanyarray(leaf)
        return replace(in_memory(array), identity=_place(array))
    if isinstance(leaf, jax.ShapeDtypeStruct):
        reason = "a shape without values"
        return without_values(leaf.shape, str(leaf.dtype), origin="", reason=reason)
    if not (hasattr(leaf, "ndim") and hasattr(leaf, "dtype")):
        reason = f"no array but {type(leaf).__name__}"
        return without_values((), "", origin="", reason=reason)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        reason = f"of type {leaf.dtype}"
        return without_values(tuple(leaf.shape), str(leaf.dtype), origin="", reason=reason)
    return Tensor(tuple(leaf.shape), str(leaf.dtype), partial(np.asarray, leaf), identity=id(leaf))


def _place(array: np.ndarray) -> tuple[Any, ...] | None:
    """Where an array lies in memory, whichever way its axes are turned: tied weights lie there."""
    if not array.size:
        return None
    steps = sorted(zip(array.shape, array.strides, strict=True))
    return array.__array_interface__["data"][0], array.dtype.str, tuple(steps)


def open_msgpack(path: Path) -> dict[str, Tensor]:
    """Every array of a file that flax.serialization wrote, by its path; held in memory.

    Raises:
        ValueError: If the file is damaged.
        ImportError: If msgpack is not installed.
    """
    try:
        import msgpack
    except ImportError as error:
        raise missing_package(path, "msgpack", "flax") from error
    with reading(path, "Flax msgpack file"):
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_array, strict_map_key=False)
        return _listed((keys, in_memory(array)) for keys, array in _arrays(tree, []))


def _array(code: int, content: bytes) -> Any:
    import msgpack

    if code not in (NDARRAY, SCALAR):
        return msgpack.ExtType(code, content)
    shape, dtype, values = msgpack.unpackb(content, raw=True)
    name = dtype.decode("ascii")
    return np.frombuffer(values, getattr(ml_dtypes, name, None) or np.dtype(name)).reshape(shape)


def _arrays(tree: Any, keys: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
    if isinstance(tree, np.ndarray):
        yield keys, tree
    elif isinstance(tree, Mapping) and CHUNKED in tree:
        chunks, shape = tree["chunks"], tree["shape"]
        flat = np.concatenate([chunks[str(index)] for index in range(len(chunks))])
        yield keys, flat.reshape([shape[str(index)] for index in range(len(shape))])
    elif isinstance(tree, Mapping):
        for key in keys_in_order(tree):
            yield from _arrays(tree[key], [*keys, str(key)])
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _arrays(child, [*keys, str(index)])


def find_orbax(folder: Path) -> Path | None:
    """The folder that holds the tree of an Orbax checkpoint: this one, or the only one within.

    Raises:
        ValueError: If there are several, such as those of many steps.
    """
    if (folder / ORBAX_METADATA).is_file():
        return folder
    within = sorted(path.parent for path in folder.glob(f"*/{ORBAX_METADATA}"))
    within += sorted(path.parent for path in folder.glob(f"*/*/{ORBAX_METADATA}"))
    if len(within) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in within)
        raise CheckpointError(f"{folder.name} holds several Orbax checkpoints; name one of {names}")
    return within[0] if within else None


def open_orbax(folder: Path) -> dict[str, Tensor]:
    """Every array of an Orbax checkpoint by its path in the tree.

    Raises:
        ValueError: If it is damaged.
        ImportError: If tensorstore is not installed.
    """
    with reading(folder, "Orbax checkpoint"):
        metadata = json.loads((folder / ORBAX_METADATA).read_text("utf-8"))
        tensors = []
        for entry in metadata["tree_metadata"].values():
            keys = [str(key["key"]) for key in entry["key_metadata"]]
            kind = entry["value_metadata"]["value_type"]
            if kind in ("None", "Dict", "List", "NamedTuple", "Tuple"):
                continue
            tensor = _orbax_tensor(folder, metadata, keys, kind)
            # nnx keeps each variable under the key "value".
            named = keys[:-1] if len(keys) > 1 and keys[-1] == "value" else keys
            tensors.append((named, tensor))
        # JAX sorted them, layer 10 before layer 2.
        return _listed(sorted(tensors, key=lambda pair: natural_order("/".join(pair[0]))))


def _orbax_tensor(folder: Path, metadata: dict[str, Any], keys: list[str], kind: str) -> Tensor:
    origin = ".".join(keys)
    if kind == "string":
        return without_values((), "", origin=origin, reason="no array but text")
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    store: dict[str, Any] = {"driver": "file", "path": f"{folder.resolve()}/{origin}/"}
    if metadata.get("use_ocdbt", True):
        base = f"file://{folder.resolve()}/"
        store = {"driver": "ocdbt", "base": base, "path": f"{origin}/"}
    spec = {"driver": driver, "kvstore": store}
    array = _open_array(folder, spec)
    dtype = np.dtype(array.dtype.numpy_dtype)
    if reason := reason_of_type(dtype):
        return without_values(array.shape, dtype.name, origin=origin, reason=reason)
    return Tensor(tuple(array.shape), dtype.name, partial(_read_orbax, folder, spec), origin)


def _open_array(folder: Path, spec: dict[str, Any]) -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise missing_package(folder, "tensorstore", "flax") from error
    return tensorstore.open(spec, open=True, read=True).result()


def _read_orbax(folder: Path, spec: dict[str, Any]) -> np.ndarray:
    with reading(folder, "Orbax checkpoint"):
        return np.asarray(_open_array(folder, spec).read().result())
