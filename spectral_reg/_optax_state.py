"""The trees in a transformation's state, and what Optax's own tools ask of them.

Held gradients are a tree like the parameters, with ``optax.MaskedNode`` where a leaf is not
selected, as in ``optax.masked``: partition specs, donation and
``optax.tree_utils.tree_map_params`` recognize them. Everything else is stored by path, in a dict:
singular vectors and values have other shapes than the weights, so a specification for the weights
(or the sharding that ``flax.nnx`` keeps beside a parameter) must not reach them. The structure of a
state never changes: what an update returns is built on the trees of the state that it was given.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from ._reparametrized import by_source
from ._tracked_penalty import Vectors
from ._trees import PyTree, named_leaves, path_name

Result = TypeVar("Result")


class SpectralPenaltyState(NamedTuple):
    """State of :func:`add_spectral_penalty`.

    For float32 weights ``[..., N, M]``, M <= N, each of the numbers listed here takes 4 bytes per
    matrix; with ``state_dtype="bfloat16"``, those of the gradient and of the vectors take 2.

    Attributes:
        count: Steps taken.
        penalty: Last value of the penalty, without the strength.
        values: Last value of each matrix: name of the metric, to path, to ``[...]``.
            ``optax.tree_utils.tree_get(opt_state, "alpha")`` finds those of alpha in any chain.
        gradient: The last gradient, where ``every`` > 1 holds it between: a tree like the
            parameters, with ``optax.MaskedNode`` where a leaf is not selected. N M numbers.
        vectors: Path to singular vectors, where ``tracking`` follows them; otherwise empty. M^2
            numbers for a metric of the spectrum; 16 M, and the two norms, for a metric of the
            norms. With ``tracking="tail"`` M K numbers, K being two to three times the number of
            eigenvalues that are read, and for the last step ``lambda_max``, the ``error`` of the
            tail relative to what is allowed, and ``num_iterations``. Zeros before the first step,
            which starts the tracking.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    penalty: jax.Array
    values: dict[str, dict[str, jax.Array]]
    gradient: PyTree
    vectors: Vectors


def is_placeholder(params: PyTree) -> bool:
    """Whether ``tree_map_params`` asks which parts of a state are trees like the parameters."""
    # Optax's class is private, and masked looks for it in the same way.
    return type(params).__name__ == "_ParamsPlaceholder"


def zeros_where(params: PyTree, names: Iterable[str], dtype: Any = None) -> PyTree:
    """Zeros like the named leaves, of their own type or another, and nothing for the others."""
    names = {*names}

    def zeros(path: tuple[Any, ...], leaf: jax.Array) -> Any:
        return jnp.zeros_like(leaf, dtype) if path_name(path) in names else optax.MaskedNode()

    return jax.tree.map_with_path(zeros, params)


def zeros_of(function: Callable[..., Result], leaves: Mapping[str, Any]) -> Result:
    """What the function of the leaves gives, as zeros where these lie; of shapes alone too."""
    arrays = [
        leaf for leaf in by_source(leaves).values() if not isinstance(leaf, jax.ShapeDtypeStruct)
    ]
    # The sum lies where an array made of all of it does, on every device of a mesh.
    zero = jnp.sum(jnp.zeros_like(arrays[0])) if arrays else jnp.zeros(())
    return jax.tree.map(
        # Each in a buffer of its own, as a training step that donates its state needs it.
        lambda result: jnp.array(jnp.broadcast_to(zero.astype(result.dtype), result.shape)),
        jax.eval_shape(function, leaves),
    )


def filled(tree: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """The tree with other leaves, by path."""
    return jax.tree.unflatten(
        jax.tree.structure(tree), [leaves[name] for name in named_leaves(tree)]
    )


def check_params(params: PyTree) -> None:
    """Refuses an update without the parameters, which Optax's interface leaves optional."""
    if params is None:
        raise ValueError("params is None; expected parameters: update(updates, state, params)")


def check_values(found: Iterable[str], expected: Iterable[str], made_for: str) -> None:
    """Refuses a state whose values have other names, and says what it was made for."""
    found, expected = [*found], [*expected]
    if {*found} != {*expected}:
        names = expected[0] if len(expected) == 1 else expected
        raise ValueError(
            f"the state has values of {found}; expected {names!r}: it was made for {made_for}; "
            "make a new one with init(params)"
        )


def check_updates(updates: PyTree, names: Iterable[str]) -> None:
    """Refuses updates in which a parameter that is selected is not to be found."""
    paths = [*named_leaves(updates)]
    missing = [name for name in names if name not in paths]
    if missing:
        raise ValueError(
            f"the updates have no leaf {missing[0]!r}, which params have; expected the tree of "
            f"params, and the paths of the updates are {paths}: give both with or without an outer "
            "{'params': ...}, and leave frozen weights out with mask"
        )


def check_fits(what: str, found: PyTree, expected: PyTree) -> None:
    """Refuses a state that was made for something else, such as one that was saved before.

    Args:
        what: The field of the state.
        found: By path, arrays or trees of them.
        expected: Likewise, arrays or their shapes.
    """
    shapes, wanted = (
        {name: tuple(leaf.shape) for name, leaf in named_leaves(tree).items()}
        for tree in (found, expected)
    )
    if shapes != wanted:
        raise ValueError(
            f"the state's {what} is {shapes}; expected {wanted}: it was made for another metric, "
            "mask, conv, axes, every or tracking, or for other params; make a new one with "
            "init(params), or restore with the arguments that it was made with"
        )
