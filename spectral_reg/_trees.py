"""Names of the leaves of a model's parameters, and masks that select among them."""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from ._equinox import equinox_weights

PyTree = Any
Mask = PyTree | Callable[[PyTree], PyTree] | None

# Flax and PyTorch; w and embeddings are Haiku's.
MATRIX_NAMES = ("kernel", "weight", "embedding", "w", "embeddings")


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as text, such as ``block/0/conv/kernel``.

    The ``.value`` that ends a path in ``flax.nnx.state`` is dropped: ``nnx.Optimizer`` calls
    ``init`` with it and ``update`` without it.

    Args:
        path: A key path, as ``jax.tree_util`` gives it.

    Returns:
        The keys joined by ``/``.

    Example:
        >>> import jax, spectral_reg as sr
        >>> [sr.path_name(path) for path, _ in jax.tree.leaves_with_path({"fc1": {"kernel": 1}})]
        ['fc1/kernel']
    """
    if path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_layer_matrix(name: str, leaf: Any) -> bool:
    """Whether a leaf holds a layer's matrices, by its name and number of axes.

    Named kernel, weight or embedding, or w or embeddings as in Haiku, with two or more axes, and
    not inside a normalization layer, whose scale has two axes too where a scan stacks layers.

    Args:
        name: The leaf's path, as :func:`path_name` gives it.
        leaf: The leaf.

    Returns:
        What :func:`layer_matrices` takes without a mask.

    Example:
        >>> import numpy as np, spectral_reg as sr
        >>> sr.is_layer_matrix("fc1/kernel", np.ones((3, 2)))
        True
    """
    *parents, last = name.split("/")
    norm = any("norm" in parent.lower() for parent in parents)
    return getattr(leaf, "ndim", 0) >= 2 and last in MATRIX_NAMES and not norm


def matches(name: str, pattern: str) -> bool:
    """Whether a path is the pattern itself, in which ``[0]`` may be a key, or of its form."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def check_patterns(patterns: Iterable[str], names: Iterable[str], argument: str = "") -> None:
    """Refuses a pattern that matches nothing, which is most often misspelled."""
    names = list(names)
    of_argument = f" of {argument}" if argument else ""
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise ValueError(
                f"the pattern {pattern!r}{of_argument} matches none of the paths {names}"
            )


def by_path(*patterns: str, exclude: tuple[str, ...] = ()) -> Callable[[PyTree], PyTree]:
    """A mask that selects leaves by their path.

    Args:
        *patterns: Shell patterns on paths such as ``block/0/conv/kernel``; ``*`` matches ``/`` too.
        exclude: Patterns of paths to leave out again.

    Returns:
        A function from a parameter tree to a tree of booleans of the same structure, which any
        ``mask`` argument of Optax takes too.

    Raises:
        ValueError: When the mask is applied, if a pattern matches no path; it lists the paths.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"fc1": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> sr.by_path("fc1/*", exclude=("*/bias",))(params)
        {'fc1': {'bias': False, 'kernel': True}}
    """

    def mask(params: PyTree) -> PyTree:
        names = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
        check_patterns((*patterns, *exclude), names)

        def select(path: tuple[Any, ...], _: Any) -> bool:
            name = path_name(path)
            return any(matches(name, pattern) for pattern in patterns) and not any(
                matches(name, pattern) for pattern in exclude
            )

        return jax.tree.map_with_path(select, params)

    return mask


def _masked_names(mask: PyTree, names: list[str]) -> set[str]:
    entries = {path_name(path): flag for path, flag in jax.tree.leaves_with_path(mask)}
    selected = set()
    for name in names:
        # A mask may be a prefix of the parameters, as in Optax: one flag for a whole branch.
        parts = name.split("/")
        prefixes = {"/".join(parts[:length]) for length in range(len(parts) + 1)}
        flags = [entries[prefix] for prefix in prefixes if prefix in entries]
        if len(flags) != 1:
            raise ValueError(
                f"the mask has {len(flags)} entries for the parameter {name!r}, expected one: it "
                f"must have the structure of the parameters or be a prefix of it; the mask has "
                f"{sorted(entries)}"
            )
        if not isinstance(flags[0], (bool, np.bool_)):
            raise TypeError(f"the mask has {flags[0]!r} for {name!r}; expected True or False")
        if flags[0]:
            selected.add(name)
    return selected


def select_leaves(params: PyTree, mask: Mask) -> dict[str, Any]:
    """The selected leaves by path; without a mask, those that hold a layer's matrix.

    Raises:
        ValueError: If nothing is selected, or the mask does not fit; it lists the paths.
    """
    leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    if mask is None:
        scales = {n for n, (kind, _) in equinox_weights(params).items() if kind == "norm"}
        selected = {name for name, leaf in leaves.items() if is_layer_matrix(name, leaf)} - scales
        rule = f"no leaf is named one of {', '.join(MATRIX_NAMES)} with two or more axes"
    else:
        selected = _masked_names(mask(params) if callable(mask) else mask, list(leaves))
        rule = "the mask selects nothing"
    if not selected:
        raise ValueError(f"{rule}; the paths are {list(leaves)}")
    return {name: leaf for name, leaf in leaves.items() if name in selected}
