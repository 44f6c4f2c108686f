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
# the residuals and the gaps. Above it another iteration follows.
MAX_ANGLE = 0.03
# Likewise the mean error of ln(lambda), which is of second order, relative to the range of
# ln(lambda) over the tail: about the relative error of alpha - 1.
MAX_ERROR = 1e-3
# Where one iteration was not enough, others follow until the error is this share of what is
# allowed; at a start, where the estimate is of vectors that are still far off, until it is less.
AFTER_ALARM, AFTER_START = 0.5, 0.05
MAX_ITERATIONS = 40
# Vectors followed for each one of the tail: near the edge of a bulk eigenvalues fall so slowly with
# their rank that twice as many take several iterations a step. Past this share of the spectrum they
# fall faster, and twice as many do.
FOLLOWED, LEAST_FOLLOWED, FOLLOWED_SHARE = 2.75, 2, 0.3
# Gaps below this, relative to the eigenvalue, count as this: of eigenvalues that close to those not
# followed, it makes no difference which are followed.
LEAST_GAP = 0.05
# Likewise of two that are followed, one in the tail and the other not: a tie is not broken.
TIE = 1e-5
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
    # Vectors lie in rows here: on two cores a product of few rows with W takes 0.6 to 0.75 times as
    # long as that of W with few columns (4096 x 384 to 4096 x 4096, XLA of jax 0.10.2).
    vectors: jax.Array  # to iterate next
    images: jax.Array  # W times the last ones; none on a mesh, where W lies in parts
    rotation: jax.Array  # from the last ones to the Ritz vectors of the tail
    ritz_vectors: jax.Array
    lambda_max: jax.Array
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
    """How many vectors are followed: 2 to 2.75 times as many as the tail has, at least 8 more."""
    wanted = min(FOLLOWED * num_tail, max(LEAST_FOLLOWED * num_tail, FOLLOWED_SHARE * size))
    return min(size, max(int(wanted), num_tail + 8))


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
    V, improve = transpose(last.vectors), partial(_improve, num_tail=num_tail)
    if mesh is None:
        search = in_turn(
            lambda W, V, known: _search(partial(_times, W), improve, V, known[..., 0, 0], num_tail)
        )
        end = search(constant, V, last.lambda_max[..., None, None])
        values = _along(W, product(end.rotation, end.images), end.ritz_vectors)
    else:
        end = _search(
            partial(_times_on_mesh, constant),
            partial(sharding.spread, improve, mesh=mesh),
            V,
            last.lambda_max,
            num_tail,
        )
        U = transpose(end.ritz_vectors)
        values = along(W, sharding.squared_column_norms(constant, U), U)
    tail = Tail(transpose(end.vectors), end.lambda_max, end.error, end.count)
    others = [(0, 0)] * (values.ndim - 1) + [(0, W.shape[-1] - num_tail)]
    spectrum = jnp.pad(jnp.sort(values, axis=-1, descending=True), others)
    return spectrum, jax.lax.stop_gradient(tail)


def _times(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """V W^T and V W^T W."""
    images = product(V, transpose(W))
    return images, product(images, W)


def _times_on_mesh(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    return V[..., :0], transpose(sharding.gram_times(W, transpose(V)))


def _search(
    times: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    improve: Callable[..., tuple[jax.Array, ...]],
    V: jax.Array,
    known: jax.Array,
    num_tail: int,
) -> _Iteration:
    def iterate(state: _Iteration) -> _Iteration:
        images, VX = times(state.vectors)
        V, rotation, U, top, error, before = improve(state.vectors, VX)
        # This is 0 for vectors that do not exist yet, and NaN after a step that was not finite.
        jumped = jnp.abs(before - known) > MAX_JUMP * known
        lost = (state.count == 0) & jumped & (known > 0)
        V = jax.lax.cond(anywhere(jnp.any(lost)), lambda: _restarted(V, lost), lambda: V)
        error = jnp.where(lost, jnp.inf, error)
        alarmed = jnp.minimum(state.allowed, AFTER_ALARM)
        allowed = jnp.where(error > state.allowed, alarmed, state.allowed)
        allowed = jnp.where(lost, AFTER_START, allowed)
        return _Iteration(V, images, rotation, U, top, error, allowed, state.count + 1)

    def is_unsettled(state: _Iteration) -> jax.Array:
        above = jnp.any(state.error > state.allowed)  # false of NaN
        return anywhere(above) & (jnp.max(state.count) < MAX_ITERATIONS)

    *batch, num_vectors, _ = V.shape
    is_nothing = ~(jnp.sum(V * V, axis=(-2, -1)) > num_vectors / 2)  # true of NaN
    V = jax.lax.cond(anywhere(jnp.any(is_nothing)), lambda: _restarted(V, is_nothing), lambda: V)
    images, _ = jax.eval_shape(times, V)
    start = _Iteration(
        V,
        jnp.zeros(images.shape, images.dtype),
        jnp.zeros((*batch, num_tail, num_vectors), V.dtype),
        jnp.zeros_like(V[..., :num_tail, :]),
        jnp.zeros(batch, V.dtype),
        jnp.full(batch, jnp.inf, V.dtype),
        jnp.where(is_nothing, AFTER_START, 1).astype(V.dtype),
        jnp.zeros(batch, jnp.int32),
    )
    return jax.lax.while_loop(is_unsettled, iterate, start)


def _restarted(V: jax.Array, lost: jax.Array) -> jax.Array:
    """Random vectors in place of the lost ones."""
    *_, num_vectors, size = V.shape
    fresh = orthonormal(jax.random.normal(jax.random.key(0), (size, num_vectors), V.dtype))
    where = jnp.broadcast_to(lost[..., None, None], V.shape)
    return jnp.where(where, jnp.broadcast_to(transpose(fresh), V.shape), V)


def _improve(V: jax.Array, VX: jax.Array, *, num_tail: int) -> tuple[jax.Array, ...]:
    """The vectors to iterate next.

    Also the rotation to the Ritz vectors of the tail, these, the largest value, the error of all
    that, and lambda_max before.
    """
    S = product(VX, transpose(V))
    values, R = eigh(S)
    values, R = values[..., ::-1], transpose(R[..., ::-1])
    shift = jnp.maximum(values[..., -1:], 0)[..., None] / 2
    iterated = product(R, VX - shift * V)
    U = product(R[..., :num_tail, :], V)
    residuals = iterated[..., :num_tail, :] - (values[..., :num_tail, None] - shift) * U
    # The others' images have the same products with residuals as the others' residuals.
    error = _error(values, residuals, iterated[..., num_tail:, :])
    tail = (R[..., :num_tail, :], U, values[..., 0])
    return _orthonormal(_seeded(normalized(iterated, axis=-1))), *tail, error, S[..., 0, 0]


def _error(values: jax.Array, residuals: jax.Array, others: jax.Array) -> jax.Array:
    """What the span lacks of the Ritz vectors, relative to what is allowed."""
    num_tail = residuals.shape[-2]
    tail, rest = values[..., :num_tail], values[..., num_tail:]
    gaps = jnp.maximum(tail - rest[..., -1:], LEAST_GAP * tail)
    zero = gaps <= 0
    gaps, tail = jnp.where(zero, 1, gaps), jnp.where(zero, 1, tail)
    squares = jnp.where(zero, 0, jnp.sum(jnp.square(residuals), axis=-1) / gaps)
    # Through what the span lacks, a vector of the tail and another of the span act on one another,
    # and neighbours turn far by that.
    coupling = product(residuals, transpose(others)) / gaps[..., None]
    coupling = jnp.where(zero[..., None], 0, coupling)
    apart = jnp.maximum(tail[..., None] - rest[..., None, :], TIE * tail[..., None])
    hypotenuse = jnp.sqrt(apart**2 + 4 * coupling**2)
    turned = jnp.sum(2 * coupling**2 / (hypotenuse * (hypotenuse + apart)), axis=-1)
    angles = jnp.sqrt(jnp.mean(squares / gaps + turned, axis=-1))
    shifts = jnp.mean(squares / tail, axis=-1)
    spread = jnp.maximum(jnp.log(tail[..., 0] / tail[..., -1]), LEAST_GAP)
    return jnp.maximum(angles / MAX_ANGLE, shifts / (MAX_ERROR * spread))


def _seeded(rows: jax.Array) -> jax.Array:
    """The vectors, of which the last have a little of a random direction."""
    shape = (NUM_SEEDED, rows.shape[-1])
    seeds = SEED * normalized(jax.random.normal(jax.random.key(1), shape, rows.dtype), axis=-1)
    last = rows[..., -NUM_SEEDED:, :] + jnp.broadcast_to(seeds, (*rows.shape[:-2], *shape))
    return jnp.concatenate([rows[..., :-NUM_SEEDED, :], normalized(last, axis=-1)], axis=-2)


def _orthonormal(rows: jax.Array) -> jax.Array:
    """An orthonormal basis of unit vectors that are nearly one, by Cholesky's factor."""
    factor = _cholesky(product(rows, transpose(rows)))
    # Ritz vectors after one iteration are orthogonal up to their residuals. Only where those are
    # large, as for the first random vectors, does it take Householder reflections.
    smallest = jnp.min(jnp.diagonal(factor, axis1=-2, axis2=-1), axis=-1)
    unusable = ~jnp.all(smallest > LEAST_PIVOT)  # true of NaN
    return jax.lax.cond(
        anywhere(unusable),
        lambda: transpose(orthonormal(transpose(rows))),
        lambda: product(_inverse(factor), rows),
    )


def _cholesky(G: jax.Array) -> jax.Array:
    return in_turn(lambda G: jnp.linalg.cholesky(G, symmetrize_input=False))(G)


def _inverse(factor: jax.Array) -> jax.Array:
    def inverse(factor: jax.Array) -> jax.Array:
        eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
        return jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)

    return in_turn(inverse)(factor)


@jax.custom_vjp
def _along(W: jax.Array, WU: jax.Array, U: jax.Array) -> jax.Array:
    """||W u_i||^2 ``[..., k]``, with the derivative 2 (W u_i)^T dW u_i; W u_i and u_i in rows."""
    del W, U
    return jnp.sum(WU * WU, axis=-1)


def _along_forward(
    W: jax.Array, WU: jax.Array, U: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _along(W, WU, U), (WU, U)


def _along_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, None, None]:
    WU, U = saved
    return product(transpose(WU), 2 * cotangent[..., None] * U), None, None


_along.defvjp(_along_forward, _along_backward)
