"""Names of the leaves of a model's parameters, and masks that select among them."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ._hyperparameters import Kept, StaysItself
from ._reparametrized import Reparametrized

PyTree = Any
Mask = PyTree | Callable[[PyTree], PyTree] | None


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


def named_leaves(params: PyTree) -> dict[str, Any]:
    """The leaves by path, in the order of the tree.

    Raises:
        ValueError: If two leaves have one path, as no mask could tell them apart.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(params, is_leaf=_is_weight):
        name = path_name(path)
        if name in leaves:
            raise ValueError(
                f"two leaves have the path {name!r}, of shapes {np.shape(leaves[name])} and "
                f"{np.shape(leaf)}; expected a path for each: a key with a / in it may be in the "
                "way, rename it"
            )
        leaves[name] = leaf
    return leaves


def _is_weight(node: Any) -> bool:
    return isinstance(node, Reparametrized)


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
                f"the pattern {pattern!r}{of_argument} matches no path; expected one that matches "
                f"some of {names}"
            )


@dataclasses.dataclass(frozen=True)
class PathMask(StaysItself):
    """What :func:`by_path` gives: a function from parameters to a tree of booleans."""

    patterns: tuple[str, ...]
    exclude: tuple[str, ...]

    def __call__(self, params: PyTree) -> PyTree:
        """The same for every leaf that fits, as a mask of Optax is asked for."""
        if isinstance(params, Kept):
            return params
        selected = self.fitting([*named_leaves(params)])
        return jax.tree.map_with_path(lambda path, _: path_name(path) in selected, params)

    def fitting(self, names: list[str]) -> set[str]:
        """The names that fit.

        Raises:
            ValueError: If a pattern fits none.
        """
        check_patterns((*self.patterns, *self.exclude), names)
        return {n for n in names if _any(n, self.patterns) and not _any(n, self.exclude)}

    def layers(self, names: list[str], reasons: Mapping[str, str]) -> set[str]:
        """The weight matrices among the names that fit.

        Where a pattern fits leaves of two axes and more, but nothing that counts as a matrix by
        itself, it asks for just these.

        Args:
            names: Of all leaves.
            reasons: Of the leaves of two axes and more: why not by itself; empty where it is one.
        """
        selected = set()
        fitting = self.fitting(names)
        for pattern in self.patterns:
            asked = [name for name in names if name in fitting and matches(name, pattern)]
            matrices = [name for name in asked if name in reasons]
            counted = [name for name in matrices if not reasons[name]]
            selected |= {*(counted or matrices or asked)}
        return selected


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(matches(name, pattern) for pattern in patterns)


def by_path(*patterns: str, exclude: str | tuple[str, ...] = ()) -> PathMask:
    """A mask that selects leaves by their path.

    Args:
        *patterns: Shell patterns on paths such as ``block/0/conv/kernel``; ``*`` matches ``/`` too.
        exclude: A pattern, or several, of paths to leave out again.

    Returns:
        A function from a parameter tree to a tree of booleans of the same structure, which any
        ``mask`` argument of Optax takes too, for the same leaves. In this library a pattern selects
        the weight matrices among them, as :func:`explain_layers` lists them: ``by_path("fc*")``
        leaves the biases of fc alone. If it matches no weight matrix, but other leaves
        of two or more axes, it selects those.

    Raises:
        TypeError: If a pattern is not a string.
        ValueError: When the mask is applied, if a pattern matches no path; it lists the paths.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"fc1": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> sr.by_path("fc1/*", exclude="*/bias")(params)
        {'fc1': {'bias': False, 'kernel': True}}
        >>> list(sr.layer_matrices(params, mask=sr.by_path("fc1/*")))
        ['fc1/kernel']
    """
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    for pattern in (*patterns, *exclude):
        if not isinstance(pattern, str):
            raise TypeError(f"by_path is given {pattern!r}; expected patterns, which are strings")
    return PathMask(patterns, exclude)


def masked_names(mask: PyTree | Callable[[PyTree], PyTree], params: PyTree) -> set[str]:
    """The leaves that a tree of booleans selects, or a function that makes one.

    Raises:
        ValueError: If it has not one entry for each leaf.
        TypeError: If an entry is no boolean.
    """
    # As in Optax: a module whose leaves are booleans is a tree, though it can be called.
    flags = jax.tree.leaves(mask)
    if flags and all(map(callable, flags)):
        mask = mask(params)
    entries = named_leaves(mask)
    selected = set()
    for name in named_leaves(params):
        # A mask may be a prefix of the parameters, as in Optax: one flag for a whole branch.
        parts = name.split("/")
        prefixes = {"/".join(parts[:length]) for length in range(len(parts) + 1)}
        found = [entries[prefix] for prefix in prefixes if prefix in entries]
        if len(found) != 1:
            raise ValueError(
                f"the mask has {len(found)} entries for the parameter {name!r}; expected one: the "
                f"structure of the parameters or a prefix of it; the mask has {sorted(entries)}"
            )
        if not isinstance(found[0], (bool, np.bool_)):
            raise TypeError(f"the mask has {found[0]!r} for {name!r}; expected True or False")
        if found[0]:
            selected.add(name)
    return selected
