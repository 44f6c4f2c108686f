"""The layers of what Optax's own tools hand to a transformation, which may be a part of a model."""

import warnings

import jax
import optax

from ._axes_argument import Axes, ResolvedAxes
from ._reading import Selection, read_tree, select_layers
from ._trees import Mask, PyTree, named_leaves


def select_part(
    params: PyTree, mask: Mask, axes: Axes, transformation: str, *, stacklevel: int = 3
) -> Selection:
    """The layers; none, with a warning, where Optax's own tools have left out all that are.

    Args:
        params: The parameters, or those of a label of ``optax.partition``.
        mask: Which leaves, as for :func:`layer_matrices`.
        axes: As for :func:`layer_matrices`.
        transformation: Its name, for the warning.
        stacklevel: Of the warning.
    """
    if not _is_hidden(params):
        return select_layers(params, mask, axes)
    paths = [*named_leaves(params)]
    if not paths:
        return Selection({}, ResolvedAxes())
    if mask is None and not read_tree(params, named_leaves(params), None, axes)[1]:
        warnings.warn(
            f"{transformation} is given no weight matrix, only {paths}: it does nothing here; "
            "leave this label out, or name what it should select with mask",
            stacklevel=stacklevel,
        )
        return Selection({}, ResolvedAxes())
    return select_layers(params, mask, axes)


def _is_hidden(params: PyTree) -> bool:
    """Whether ``optax.masked`` or ``optax.partition`` has left out some of the parameters."""
    nodes = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
    return any(isinstance(node, optax.MaskedNode) for node in nodes)
