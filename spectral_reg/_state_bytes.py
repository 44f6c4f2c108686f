"""How much memory a transformation keeps between steps."""

import math

import jax
import optax

from ._trees import PyTree, path_name


def state_bytes(transformation: optax.GradientTransformation, params: PyTree) -> dict[str, int]:
    """The bytes that each array of a transformation's state takes, without making it.

    Args:
        transformation: Any Optax transformation, such as :func:`add_spectral_penalty` or a chain.
        params: The parameters, or their shapes as ``jax.eval_shape`` gives them.

    Returns:
        Path in the state to bytes, over all devices; the total is the sum of ``.values()``.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"fc1": {"kernel": jnp.ones((4096, 384))}}
        >>> for tracking in ("exact", "warm"):
        ...     penalty = sr.add_spectral_penalty(sr.alpha, 1.0, tracking=tracking)
        ...     print(tracking, sum(sr.state_bytes(penalty, params).values()))
        exact 12
        warm 589836

    Cost: one trace of ``init``; no array is made.
    """
    state = jax.eval_shape(transformation.init, params)
    return {
        path_name(path): math.prod(leaf.shape) * leaf.dtype.itemsize
        for path, leaf in jax.tree.leaves_with_path(state)
    }
