"""The largest singular value followed from step to step by conjugate gradients."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._algebra import normalized, product, scale_of, transpose
from ._eigenvalues import along, as_matrices, tall
from ._stacks import anywhere, eigh, orthonormal

# Vectors iterated for lambda_max: the KEPT best, and for the FOLLOWED best of them the residual and
# the last move. A single vector is lost for tens of steps where two eigenvalues cross at the top,
# and a penalty on the top brings eigenvalues together.
KEPT, FOLLOWED = 8, 4
TOP = KEPT + 2 * FOLLOWED
# Eigenvalues within this of the largest, relative to it, share its derivative: which of them is the
# largest changes at every step of training, and a descent on one alone lets the others rise. Twice
# as much and the gradient of a random matrix has a cosine of 0.96 with that of the largest alone.
CLUSTER = 0.01

# Relative residual of the top vector above which another such step follows, and how far a norm may
# move between two steps of training before the vectors count as those of another matrix.
MAX_ERROR = 0.02
MAX_ERROR_AT_START = 1e-3
MAX_CLIMBS = 100
MAX_JUMP = 0.5


class Climb(NamedTuple):
    """A state of the search for the top: vectors, the best and their values, error, and steps."""

    vectors: jax.Array
    best: jax.Array
    values: jax.Array
    error: jax.Array
    bound: jax.Array
    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count


class TopVectors(NamedTuple):
    """The state that :func:`tracked_norms` continues from.

    Attributes:
        vectors: Orthonormal, ``[..., M, TOP]``, the best one first.
        squared_norm: ||W||_F^2 of the last step, ``[...]``.
        lambda_max: That of the last step, ``[...]``.
    """

    vectors: jax.Array
    squared_norm: jax.Array
    lambda_max: jax.Array


def no_top_vectors(W: jax.Array) -> TopVectors:
    """Zeros, from which :func:`tracked_norms` begins with random vectors."""
    W = tall(as_matrices(W))
    batch = W.shape[:-2]
    vectors = jnp.zeros((*batch, W.shape[-1], min(TOP, W.shape[-1])), W.dtype)
    return TopVectors(vectors, jnp.zeros(batch, W.dtype), jnp.zeros(batch, W.dtype))


def tracked_norms(W: jax.Array, last: TopVectors) -> tuple[jax.Array, jax.Array, TopVectors]:
    """Squared Frobenius norm and lambda_max by a step of locally optimal conjugate gradients.

    It takes the best vector in the span of V. For the next step the span is that of the few best,
    and of the residuals and last moves of the first of these. Power iteration, for the same two
    passes over W, would lose its way where another eigenvalue rises to the top.

    Eigenvalues next to the largest share its derivative, as a softmax of their distance over 1 % of
    it has them: that is one of the subgradients where they are equal.

    More steps follow while the residual is above its bound. Where a norm is far from its last
    value, or nothing is known yet, they begin with random vectors: those of another matrix may be
    exact eigenvectors of this one, but of other eigenvalues, and then no residual shows it.

    Args:
        W: Matrices ``[..., rows, cols]``.
        last: What the last step left.

    Returns:
        ||W||_F^2 and lambda_max, each ``[...]``, differentiable in ``W``; and the state for the
        next step.

    References:
        Knyazev, Toward the optimal preconditioned eigensolver (LOBPCG), 2001.
    """
    W = tall(as_matrices(W))
    constant, mesh = jax.lax.stop_gradient(W), sharding.mesh_of(W)
    squared_norm = jnp.sum(W * W, axis=(-2, -1))
    best, _, left = climb_to_top(constant, last)
    if mesh is not None:
        values = along(W, sharding.squared_column_norms(constant, best), best)
    else:
        WV = product(W, best)
        values = jnp.sum(WV * WV, axis=-2)
    top = _largest(values)
    lambda_max = sharding.everywhere(jax.lax.stop_gradient(top), mesh)
    return squared_norm, top, left._replace(lambda_max=lambda_max)


def climb_to_top(
    W: jax.Array,
    last: TopVectors,
    *,
    above: float | jax.Array = math.inf,
    max_error: float = MAX_ERROR,
) -> tuple[jax.Array, jax.Array, TopVectors]:
    """The KEPT best vectors that :func:`tracked_norms` finds, not differentiable.

    Args:
        W: Tall matrices ``[..., N, M]``.
        last: What the last step left.
        above: The vectors whose eigenvalues are above this are to be known too, not the first
            alone.
        max_error: Relative residual past which another step follows.

    Returns:
        The vectors ``[..., M, KEPT]``, their Ritz values ``[..., KEPT]``, and what is left.
    """
    mesh = sharding.mesh_of(W)
    last = jax.tree.map(lambda array: sharding.everywhere(array, mesh), last)
    known_norm = sharding.everywhere(jnp.sum(W * W, axis=(-2, -1)), mesh)
    changed = _has_jumped(known_norm, last.squared_norm)

    def climb(state: Climb) -> Climb:
        if mesh is not None:
            images = sharding.gram_times(W, state.vectors)
            results = sharding.spread(_climb, state.vectors, images, mesh=mesh)
        else:
            WV = product(W, state.vectors)
            images = product(transpose(W), WV)
            S = product(transpose(WV), WV)
            results = _climb(state.vectors, images, S)
        best, vectors, known, values, errors = results
        lost = (state.count == 0) & (changed | _has_jumped(known, last.lambda_max))
        vectors = jax.lax.cond(
            anywhere(jnp.any(lost)), lambda: _restarted(vectors, lost), lambda: vectors
        )
        bound = jnp.where(lost, MAX_ERROR_AT_START, state.bound)
        # Any of those followed may be the best at the next step: at a start all must be known.
        first = jnp.broadcast_to(jnp.arange(errors.shape[-1]) == 0, errors.shape)
        at_start = jnp.broadcast_to((bound < max_error)[..., None], errors.shape)
        is_wanted = first | at_start | (values[..., :FOLLOWED] > above)
        error = jnp.max(jnp.where(is_wanted, errors, 0), axis=-1)
        error = jnp.where(lost, jnp.inf, error)
        return Climb(vectors, best, values, error, bound, state.count + 1)

    def is_unsettled(state: Climb) -> jax.Array:
        unsettled = jnp.any(state.error > state.bound)  # false of NaN
        return anywhere(unsettled) & (state.count < MAX_CLIMBS)

    unknown = jnp.full_like(last.lambda_max, jnp.inf)
    bound = jnp.full_like(last.lambda_max, max_error)
    best = last.vectors[..., :KEPT]
    start = Climb(
        last.vectors, best, jnp.zeros_like(best[..., 0, :]), unknown, bound, jnp.zeros((), int)
    )
    end = jax.lax.while_loop(is_unsettled, climb, start)
    left = TopVectors(end.vectors, known_norm, end.values[..., 0])
    left = jax.tree.map(lambda array: sharding.everywhere(array, mesh), left)
    return end.best, end.values, left


def with_those_of(change: jax.Array, V: jax.Array) -> jax.Array:
    """The vectors, the last of which give way to the largest singular vectors of the change.

    No residual of the others tells of a direction that has no part in them. Only by the step can it
    have come above the bound.
    """
    *_, size, num_vectors = V.shape
    if num_vectors == size:
        return V
    mesh = sharding.mesh_of(change)
    random = jax.random.normal(jax.random.key(0), (size, FOLLOWED), V.dtype)
    found = random = jnp.broadcast_to(random, (*V.shape[:-1], FOLLOWED))
    for _ in range(2):
        if mesh is None:
            found = product(transpose(change), product(change, normalized(found)))
        else:
            found = sharding.gram_times(change, normalized(found))
    found = normalized(found) + jnp.where(found == 0, 1e-3 * random, 0)
    columns = jnp.concatenate([V[..., : num_vectors - FOLLOWED], found], axis=-1)
    if mesh is None:
        return orthonormal(columns)
    return sharding.spread(orthonormal, columns, mesh=mesh)


def _largest(values: jax.Array) -> jax.Array:
    """The first of the values, with a derivative that those next to it share."""
    constant = jax.lax.stop_gradient(values)
    top = jnp.max(constant, axis=-1, keepdims=True)
    below = (constant - top) / (CLUSTER * jnp.where(top > 0, top, 1))
    shares = jax.nn.softmax(below, axis=-1)
    return top[..., 0] + jnp.sum(shares * (values - constant), axis=-1)


def _has_jumped(value: jax.Array, last: jax.Array) -> jax.Array:
    return ~(jnp.abs(value - last) <= MAX_JUMP * last)  # true of NaN


def _restarted(vectors: jax.Array, lost: jax.Array) -> jax.Array:
    """Random vectors in place of those that are lost."""
    *_, size, num = vectors.shape
    fresh = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, num), vectors.dtype))[0]
    return jnp.where(
        jnp.broadcast_to(lost[..., None, None], vectors.shape),
        jnp.broadcast_to(fresh, vectors.shape),
        vectors,
    )


def _climb(
    V: jax.Array, XV: jax.Array, S: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """The best vectors in the span of V, and the span for the next step.

    Also what the first of V says lambda_max is, the values of the best, and their residuals,
    relative to the largest.
    """
    scale = scale_of(XV)
    XV = XV / scale
    S = product(transpose(V), XV) if S is None else S / scale
    values, ritz = eigh(S)
    values, ritz = values[..., ::-1], ritz[..., ::-1]
    best = product(V, ritz[..., :KEPT])
    followed = ritz[..., :FOLLOWED]
    residuals = product(XV, followed) - values[..., None, :FOLLOWED] * best[..., :FOLLOWED]
    moves = product(V[..., KEPT:], followed[..., KEPT:, :])
    columns = (best, normalized(residuals), normalized(moves))
    errors, top = jnp.linalg.norm(residuals, axis=-2), values[..., :1]
    errors = jnp.where(top > 0, errors / jnp.where(top > 0, top, 1), 0)
    span = orthonormal(jnp.concatenate(columns, axis=-1))
    scale = scale[..., 0]
    return best, span, scale[..., 0] * S[..., 0, 0], scale * values[..., :KEPT], errors
