"""Sums over the whole spectrum: the nuclear norm and the distance from orthogonality."""

import jax
import jax.numpy as jnp

from ._metrics import rank_tolerance
from ._penalty import check_number
from ._spectral_metric import spectral_metric


@spectral_metric
def nuclear_norm(eigenvalues: jax.Array) -> jax.Array:
    r"""Sum of the singular values, the convex measure of rank.

    .. math:: \|W\|_* = \sum_i \sqrt{\lambda_i}, \quad d\|W\|_* = \langle U V^T, dW \rangle

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``, in units of W. Zero matrix: 0, gradient 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.nuclear_norm(jnp.diag(jnp.array([3.0, 1.0]))))
        4.0

    Singular values below M eps sigma_max count as 0, and have gradient 0: one of the subgradients.
    Cost and errors: those of :func:`spectral_metric`; :func:`products_only` does without a
    decomposition.

    References:
        Recht, Fazel and Parrilo, Guaranteed minimum-rank solutions of linear matrix equations via
        nuclear norm minimization, 2010.
    """
    zero = eigenvalues <= rank_tolerance(eigenvalues)
    return jnp.sum(jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, eigenvalues))), axis=-1)


@spectral_metric
def orthogonality(eigenvalues: jax.Array, *, scale: float | None = None) -> jax.Array:
    r"""Squared distance of the Gram matrix from a multiple of the identity.

    .. math:: \|W^T W - s I\|_F^2 = \sum_i (\lambda_i - s)^2

    The Gram matrix is that of the shorter side, of M x M.

    Args:
        W: Matrices ``[..., rows, cols]``.
        scale: The squared singular value s that all are to have, 1 for orthonormal rows or columns.
            None takes the nearest multiple, s the mean of the eigenvalues: all singular values
            alike, whatever they are.

    Returns:
        ``[...]``, in the fourth power of the units of W. 0 where W is orthogonal up to that scale.

    Raises:
        ValueError: If the scale is not finite.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.orthogonality(2 * jnp.eye(3)), sr.orthogonality(2 * jnp.eye(3), scale=1.0))
        0.0 27.0

    Cost and errors: those of :func:`spectral_metric`; :func:`products_only` does without a
    decomposition.

    References:
        Bansal, Chen and Wang, Can we gain more from orthogonality regularizations, 2018, Eq. 2.
    """
    if scale is None:
        center = jnp.mean(eigenvalues, axis=-1, keepdims=True)
    else:
        check_number("scale", scale)
        center = jnp.full_like(eigenvalues, scale)
    return jnp.sum(jnp.square(eigenvalues - center), axis=-1)
