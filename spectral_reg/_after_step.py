"""What acts on the weights that a step leaves: updates that lead to other weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ._axes_argument import Axes
from ._optax_state import check_updates
from ._part_of_model import select_part
from ._reading import Selection
from ._reparametrized import Reparametrized
from ._trees import Mask, PyTree, path_name


def select_trained(params: PyTree, mask: Mask, axes: Axes, transformation: str) -> Selection:
    """The selected leaves, each of them a weight that is trained itself."""
    selection = select_part(params, mask, axes, transformation, stacklevel=4)
    for name, leaf in selection.leaves.items():
        if isinstance(leaf, Reparametrized):
            raise ValueError(
                f"mask selects {name!r}, which is made of {[*leaf.sources]}; expected a weight "
                "that is trained itself: leave it out with mask"
            )
        if 0 in leaf.shape or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{name!r} has shape {leaf.shape} and dtype {leaf.dtype}; expected real "
                "floating-point numbers, at least one: leave it out with mask"
            )
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                f"{name!r} is a shape without values; expected an array: {transformation} starts "
                "from the weights. jax.eval_shape(optimizer.init, params) gives a state's shapes"
            )
    return selection


def left_by_step(updates: PyTree, leaves: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The selected weights after the step, in float32 or wider."""
    check_updates(updates, leaves)
    steps = {path_name(path): update for path, update in jax.tree.leaves_with_path(updates)}
    return {name: wide(leaf) + wide(steps[name]) for name, leaf in leaves.items()}


def leading_to(
    weights: Mapping[str, jax.Array], updates: PyTree, leaves: Mapping[str, jax.Array]
) -> PyTree:
    """Updates after which the selected leaves are the weights; the others as they are."""

    def lead(path: tuple, update: jax.Array) -> jax.Array:
        name = path_name(path)
        if name not in weights:
            return update
        return (weights[name] - wide(leaves[name])).astype(update.dtype)

    return jax.tree.map_with_path(lead, updates)


def wide(leaf: jax.Array) -> jax.Array:
    """The leaf in float32 or wider."""
    return leaf.astype(np.promote_types(leaf.dtype, jnp.float32))
