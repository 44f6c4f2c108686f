"""Singular values clipped at a bound: by decomposition, by followed vectors, by products."""

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._algebra import product, transpose
from ._eigenvalues import gram, singular_vectors
from ._stacks import anywhere
from ._tracked_norms import FOLLOWED, TopVectors, climb_to_top, with_those_of

# Relative residual past which a vector above the bound is not clipped yet.
MAX_ERROR = 0.01
# Eigenvalues that count as next to the bound, relative to its square: with those above it alone,
# the largest singular value of a small language model came to 1.002 times the bound.
NEAR = 0.02
# Odd quintics a s + b s^3 + c s^5, one after the other, take every s in [0.0007, 1] to 1, each the
# best there is for what the one before leaves; the last is Pade's.
SIGN = (
    (8.4835, -25.16, 18.6706),
    (4.2048, -3.1239, 0.5823),
    (4.0449, -3.0124, 0.5696),
    (3.5098, -2.6297, 0.5261),
    (2.4951, -1.8385, 0.4373),
    (1.9187, -1.2977, 0.3798),
    (1.875, -1.25, 0.375),
)
# How far above the square of the bound an eigenvalue may be for one such step, as it is estimated;
# and how many steps there are at most, from 1e12 times the bound.
REACH, MAX_STAGES = 32, 16
# The last of them do for s in [0.1, 1], the inverse root of eigenvalues within a factor of 100.
INVERSE_ROOT = SIGN[3:]


def clipped(W: jax.Array, bound: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest matrices without a singular value above the bound, by a decomposition.

    ``U min(S, bound) V^T``

    Args:
        W: Tall matrices ``[..., N, M]``, in float32 or wider.
        bound: The bound.

    Returns:
        The matrices, and the largest singular value of each ``[...]``.
    """
    return _clipped_along(W, singular_vectors(W), bound)


def clipped_along_top(
    W: jax.Array, last: TopVectors, bound: float | jax.Array, change: jax.Array
) -> tuple[jax.Array, jax.Array, TopVectors]:
    """What :func:`clipped` gives, by the few vectors that are followed from the step before.

    Where as many are next to the bound as are followed there may be more, and it is decomposed: of
    a cluster that is cut at every step the few vectors find only some. The largest singular values
    are given as far up as the residuals leave them.

    Args:
        W: Tall matrices ``[..., N, M]``, in float32 or wider.
        last: What the step before left.
        bound: The bound.
        change: What the step has added to the matrices, ``[..., N, M]``.
    """
    most = bound**2
    near = (1 - NEAR) * most
    last = last._replace(vectors=with_those_of(change, last.vectors))
    best, values, left = climb_to_top(W, last, above=near, max_error=MAX_ERROR)
    is_many = values[..., min(FOLLOWED, values.shape[-1]) - 1] > near

    def along_top() -> jax.Array:
        # Not most < values: NaN goes on.
        is_above = ~(values[..., 0] <= most)
        return jax.lax.cond(
            anywhere(jnp.any(is_above)), lambda: _clipped_along(W, best, bound)[0], lambda: W
        )

    W = jax.lax.cond(anywhere(jnp.any(is_many)), lambda: clipped(W, bound)[0], along_top)
    largest = jnp.minimum(jnp.sqrt((1 + MAX_ERROR) * values[..., 0]), bound)
    return W, largest, left._replace(lambda_max=jnp.minimum(left.lambda_max, most))


def softly_clipped(W: jax.Array, bound: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Nearly what :func:`clipped` gives, by products of matrices alone.

    .. math:: X = W^T W / bound^2, \quad
        Y = X + (I - X) (I + sign(I - X)) / 2 = \max(X, I), \quad W Y^{-1/2}

    The sign and the inverse root are odd polynomials, one after the other. The error is largest
    next to the bound, where the sign is not resolved. Of the largest singular values a bound is
    given, at most M^(1/16) times too large. What is more than 4 times the bound comes down to it in
    several such steps, each to a quarter: further off, the polynomials would not resolve the rest.
    """
    X, most = _relative(W, bound)

    def nearer(W: jax.Array) -> jax.Array:
        def one(W: jax.Array, _: None) -> tuple[jax.Array, None]:
            X, most = _relative(W, bound)
            level = jnp.maximum(most / REACH, 1)

            def shrunk() -> jax.Array:
                return _shrunk(W, X / level[..., None, None], most / level)

            return jax.lax.cond(anywhere(jnp.any(~(most <= REACH))), shrunk, lambda: W), None

        return jax.lax.scan(one, W, length=MAX_STAGES)[0]

    is_far = anywhere(jnp.any(~(most <= REACH)))
    W = jax.lax.cond(is_far, nearer, lambda W: W, W)
    X, most = jax.lax.cond(is_far, lambda: _relative(W, bound), lambda: (X, most))
    W = jax.lax.cond(anywhere(jnp.any(~(most <= 1))), lambda: _shrunk(W, X, most), lambda: W)
    return W, bound * jnp.sqrt(jnp.minimum(most, 1))


def _relative(W: jax.Array, bound: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    """W^T W relative to the bound, and what is at least its lambda_max, at most M^(1/8) times."""
    X = gram(W / bound)
    trace = jnp.trace(X, axis1=-2, axis2=-1)
    share = X / jnp.where(trace > 0, trace, 1)[..., None, None]
    fourth = product(share, share)
    fourth = product(fourth, fourth)
    return X, trace * jnp.linalg.norm(fourth, axis=(-2, -1)) ** 0.25


def _shrunk(W: jax.Array, X: jax.Array, most: jax.Array) -> jax.Array:
    mesh = sharding.mesh_of(W)
    if mesh is None:
        return product(W, _shrinkage(X, most[..., None, None]))
    shrinkage = sharding.spread(_shrinkage, X, most[..., None, None], mesh=mesh)
    return sharding.times(W, shrinkage)


def _shrinkage(X: jax.Array, most: jax.Array) -> jax.Array:
    """min(1, X^(-1/2)) of positive matrices ``[..., M, M]`` with eigenvalues up to ``most``."""
    eye = jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=X.dtype), X.shape)
    most = jnp.maximum(most, 1)
    rest = eye - X
    sign = rest / jnp.maximum(most - 1, 1)
    for a, b, c in SIGN:
        square = product(sign, sign)
        sign = a * sign + product(sign, b * square + c * product(square, square))
    Y = X + (rest + product(rest, sign)) / 2
    Y, root = Y / most, eye / jnp.sqrt(most)
    for a, b, c in INVERSE_ROOT:
        step = a * eye + b * Y + c * product(Y, Y)
        root, Y = product(root, step), product(Y, product(step, step))
    return root


def _clipped_along(
    W: jax.Array, V: jax.Array, bound: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The matrices with the images of those orthonormal columns cut to the bound, and the largest.

    NaN stays NaN.
    """
    mesh = sharding.mesh_of(W)
    WV = None if mesh is not None else product(W, V)
    squares = sharding.squared_column_norms(W, V) if WV is None else jnp.sum(WV * WV, axis=-2)
    sizes = jnp.sqrt(squares)
    largest = jnp.minimum(jnp.max(sizes, axis=-1), bound)
    sizes = sizes[..., None, :]
    # Not bound < sizes: NaN stays NaN.
    excess = jnp.where(sizes <= bound, 0, 1 - bound / jnp.where(sizes == 0, 1, sizes))
    if WV is None:
        return W - sharding.times(W, V * excess, V), largest
    return W - product(WV * excess, transpose(V)), largest
