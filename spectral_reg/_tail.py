"""The largest eigenvalues followed from step to step by block power iteration."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._algebra import normalized, product, transpose
from ._eigenvalues import along, as_matrices, eigenvalues, tall
from ._stacks import anywhere, eigh, in_turn, orthonormal

# Angle between a Ritz vector and its eigenvector, root mean square over the tail, as estimated from
# the residual and the gap to what is not followed. Above it another iteration follows. The cosine
# of the gradient is about 1 - angle^2 / 2.
MAX_ANGLE = 0.03
# Likewise the mean error of ln(lambda), which is of second order, relative to the range of
# ln(lambda) over the tail: about the relative error of alpha - 1.
MAX_ERROR = 1e-3
# Where one iteration was not enough, others follow until the error is this share of what is
# allowed: an error that stops just below the bound is above it again at the next step.
AFTER_START = 0.05
MAX_ITERATIONS = 40
# Gaps below this, relative to the eigenvalue, count as this: of eigenvalues that close to those not
# followed, it makes no difference which are followed.
LEAST_GAP = 0.05
# The last of the followed have a little of a random direction added, from which grows what else has
# no part in the span, such as a direction that rises from nothing.
NUM_SEEDED, SEED = 2, 0.1
# How far the largest eigenvalue may move between two steps of training before the vectors count as
# those of another matrix. They may be exact eigenvectors of this one too, but not of its largest
# eigenvalues, and then no residual shows it.
MAX_JUMP = 0.5
# Pivot of the Cholesky factor below which the columns are too close to dependent to use it.
LEAST_PIVOT = 0.1


class Tail(NamedTuple):
    """The state that :func:`tracked_tail` continues from.

    Attributes:
        vectors: Orthonormal, ``[..., M, K]``, those of the largest eigenvalues first. K is 0 where
            so much of the spectrum is read that it is decomposed instead.
        lambda_max: The largest eigenvalue found with them, ``[...]``.
        error: Their distance from the eigenvectors, relative to what is allowed, ``[...]``: above 1
            the tail was lost at this step.
        num_iterations: Iterations of the last step, ``[...]``: 1, unless it had to start again.
    """

    vectors: jax.Array
    lambda_max: jax.Array
    error: jax.Array
    num_iterations: jax.Array


class _Iteration(NamedTuple):
    vectors: jax.Array  # to iterate next
    ritz_vectors: jax.Array
    ritz_values: jax.Array
    error: jax.Array
    allowed: jax.Array
    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count


def no_tail(W: jax.Array, num_tail: int) -> Tail:
    """Zeros, from which :func:`tracked_tail` begins with random vectors."""
    W = tall(as_matrices(W))
    batch, size = W.shape[:-2], W.shape[-1]
    followed = num_followed(num_tail, size)
    nothing = jnp.zeros(batch, W.dtype)
    return Tail(
        jnp.zeros((*batch, size, followed if followed < size else 0), W.dtype),
        nothing,
        nothing,
        jnp.zeros(batch, jnp.int32),
    )


def num_followed(num_tail: int, size: int) -> int:
    """How many vectors are followed: twice as many as the tail has, or some more if it is short."""
    return min(size, max(2 * num_tail, num_tail + 8))


def tracked_tail(W: jax.Array, last: Tail, num_tail: int) -> tuple[jax.Array, Tail]:
    r"""The largest eigenvalues of W^T W from the singular vectors of a slightly different W.

    Rayleigh and Ritz on the span of V, and for the next step one power iteration of it, shifted by
    half of the least Ritz value, which is the more selective and safe for any spectrum:

    .. math:: (W V)^T W V = R \Theta R^T, \quad u_i = V r_i, \quad
        V \leftarrow \mathrm{orth}((W^T W - \theta_K / 2) V R)

    The residual of u_i says what the span lacks of it; where that is too much, the iteration
    continues with the same W. Where nothing is known yet, or the largest eigenvalue is far from its
    last value, it starts from random vectors.

    Args:
        W: Matrices ``[..., rows, cols]``.
        last: What the last step left. Where it has no vectors, W is decomposed.
        num_tail: How many eigenvalues, k.

    Returns:
        Eigenvalues ``[..., M]``, descending and differentiable in ``W``, with zeros in place of all
        but the first k; and the state for the next step.

    References:
        Rutishauser, Simultaneous iteration method for symmetric matrices, 1970.
    """
    W = tall(as_matrices(W))
    if last.vectors.shape[-1] == 0:
        return eigenvalues(W), last
    constant, mesh = jax.lax.stop_gradient(W), sharding.mesh_of(W)
    last = jax.tree.map(lambda array: sharding.everywhere(array, mesh), last)
    improve = partial(_improve, num_tail=num_tail)
    if mesh is None:
        search = in_turn(
            lambda W, V, known: _search(
                lambda V: product(transpose(W), product(W, V)), improve, V, known[..., 0, 0]
            )
        )
        end = search(constant, last.vectors, last.lambda_max[..., None, None])
    else:
        end = _search(
            partial(sharding.gram_times, constant),
            partial(sharding.spread, improve, mesh=mesh),
            last.vectors,
            last.lambda_max,
        )
    U = end.ritz_vectors[..., :num_tail]
    if mesh is None:
        values = _along(W, U)
    else:
        values = along(W, sharding.squared_column_norms(constant, U), U)
    tail = Tail(end.vectors, end.ritz_values[..., 0], end.error, end.count)
    others = [(0, 0)] * (values.ndim - 1) + [(0, W.shape[-1] - num_tail)]
    spectrum = jnp.pad(jnp.sort(values, axis=-1, descending=True), others)
    return spectrum, jax.lax.stop_gradient(tail)


def _search(
    times_gram: Callable[[jax.Array], jax.Array],
    improve: Callable[..., tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]],
    V: jax.Array,
    known: jax.Array,
) -> _Iteration:
    batch = V.shape[:-2]

    def iterate(state: _Iteration) -> _Iteration:
        V, U, values, error, before = improve(state.vectors, times_gram(state.vectors))
        # This is 0 for vectors that do not exist yet, and NaN after a step that was not finite.
        jumped = jnp.abs(before - known) > MAX_JUMP * known
        lost = (state.count == 0) & jumped & (known > 0)
        V = jax.lax.cond(anywhere(jnp.any(lost)), lambda: _restarted(V, lost), lambda: V)
        error = jnp.where(lost, jnp.inf, error)
        allowed = jnp.where(error > state.allowed, AFTER_START, state.allowed)
        return _Iteration(V, U, values, error, allowed, state.count + 1)

    def is_unsettled(state: _Iteration) -> jax.Array:
        above = jnp.any(state.error > state.allowed)  # false of NaN
        return anywhere(above) & (jnp.max(state.count) < MAX_ITERATIONS)

    is_nothing = ~(jnp.sum(V * V, axis=(-2, -1)) > V.shape[-1] / 2)  # true of NaN
    V = jax.lax.cond(anywhere(jnp.any(is_nothing)), lambda: _restarted(V, is_nothing), lambda: V)
    start = _Iteration(
        V,
        jnp.zeros_like(V),
        jnp.zeros((*batch, V.shape[-1]), V.dtype),
        jnp.full(batch, jnp.inf, V.dtype),
        jnp.ones(batch, V.dtype),
        jnp.zeros(batch, jnp.int32),
    )
    return jax.lax.while_loop(is_unsettled, iterate, start)


def _restarted(V: jax.Array, lost: jax.Array) -> jax.Array:
    """Random vectors in place of the lost ones."""
    fresh = orthonormal(jax.random.normal(jax.random.key(0), V.shape[-2:], V.dtype))
    where = jnp.broadcast_to(lost[..., None, None], V.shape)
    return jnp.where(where, jnp.broadcast_to(fresh, V.shape), V)


def _improve(
    V: jax.Array, XV: jax.Array, *, num_tail: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """The vectors to iterate next, Ritz vectors and values, their error, and lambda_max before."""
    S = product(transpose(V), XV)
    values, R = eigh(S)
    values, R = values[..., ::-1], R[..., ::-1]
    U, XU = product(V, R), product(XV, R)
    residuals = jnp.sum(jnp.square(XU - U * values[..., None, :]), axis=-2)[..., :num_tail]
    tail, border = values[..., :num_tail], values[..., -1:]
    gaps = jnp.maximum(tail - border, LEAST_GAP * tail)
    zero = gaps <= 0
    gaps, tail = jnp.where(zero, 1, gaps), jnp.where(zero, 1, tail)
    angles = jnp.sqrt(jnp.mean(jnp.where(zero, 0, residuals / gaps**2), axis=-1))
    shifts = jnp.mean(jnp.where(zero, 0, residuals / (gaps * tail)), axis=-1)
    spread = jnp.maximum(jnp.log(tail[..., 0] / tail[..., -1]), LEAST_GAP)
    error = jnp.maximum(angles / MAX_ANGLE, shifts / (MAX_ERROR * spread))
    shift = jnp.maximum(border, 0)[..., None, :] / 2
    columns = normalized(XU - shift * U)
    return _orthonormal(_seeded(columns)), U, values, error, S[..., 0, 0]


def _seeded(columns: jax.Array) -> jax.Array:
    """The columns, of which the last have a little of a random direction."""
    shape = (columns.shape[-2], NUM_SEEDED)
    seeds = SEED * normalized(jax.random.normal(jax.random.key(1), shape, columns.dtype))
    last = columns[..., -NUM_SEEDED:] + jnp.broadcast_to(seeds, (*columns.shape[:-2], *shape))
    return jnp.concatenate([columns[..., :-NUM_SEEDED], normalized(last)], axis=-1)


def _orthonormal(columns: jax.Array) -> jax.Array:
    """An orthonormal basis of unit columns that are nearly one, by Cholesky's factor."""
    factor = _cholesky(product(transpose(columns), columns))
    # Ritz vectors after one iteration are orthogonal up to their residuals. Only where those are
    # large, as for the first random vectors, does it take Householder reflections.
    smallest = jnp.min(jnp.diagonal(factor, axis1=-2, axis2=-1), axis=-1)
    unusable = ~jnp.all(smallest > LEAST_PIVOT)  # true of NaN
    return jax.lax.cond(
        anywhere(unusable),
        lambda: orthonormal(columns),
        lambda: product(columns, transpose(_inverse(factor))),
    )


def _cholesky(G: jax.Array) -> jax.Array:
    return in_turn(lambda G: jnp.linalg.cholesky(G, symmetrize_input=False))(G)


def _inverse(factor: jax.Array) -> jax.Array:
    def inverse(factor: jax.Array) -> jax.Array:
        eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
        return jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)

    return in_turn(inverse)(factor)


@jax.custom_vjp
def _along(W: jax.Array, U: jax.Array) -> jax.Array:
    """||W u_i||^2 ``[..., k]``, with the derivative 2 (W u_i)^T dW u_i."""
    return _along_forward(W, U)[0]


def _along_forward(W: jax.Array, U: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    WU = product(W, U)
    return jnp.sum(WU * WU, axis=-2), (WU, U)


def _along_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, None]:
    WU, U = saved
    return product(2 * WU * cotangent[..., None, :], transpose(U)), None


_along.defvjp(_along_forward, _along_backward)
