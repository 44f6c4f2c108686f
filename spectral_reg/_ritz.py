"""One iteration of Ritz vectors: the next ones, and how far these are from eigenvectors."""

import jax
import jax.numpy as jnp

from ._algebra import normalized, product, scale_of, transpose
from ._stacks import anywhere, eigh, in_turn, orthonormal

# Angle between a Ritz vector and its eigenvector, root mean square over the tail, as estimated from
# the residuals and the gaps. Above it another iteration follows.
MAX_ANGLE = 0.03
# Likewise the mean error of ln(lambda), which is of second order, relative to the range of
# ln(lambda) over the tail: about the relative error of alpha - 1.
MAX_ERROR = 1e-3
# Gaps below this, relative to the eigenvalue, count as this: of eigenvalues that close to those not
# followed, it makes no difference which are followed.
LEAST_GAP = 0.05
# Likewise of two that are followed, one in the tail and the other not: a tie is not broken.
TIE = 1e-5
# The last of the followed have a little of a random direction added, from which grows what else has
# no part in the span, such as a direction that rises from nothing.
NUM_SEEDED, SEED = 2, 0.1
# Pivot of the Cholesky factor below which the columns are too close to dependent to use it.
LEAST_PIVOT = 0.1


def improve(V: jax.Array, VX: jax.Array, *, num_tail: int) -> tuple[jax.Array, ...]:
    """The vectors to iterate next.

    Also the rotation to the Ritz vectors of the tail, these, the largest value, the error of all
    that, and lambda_max before.
    """
    scale = scale_of(VX)
    VX = VX / scale
    S = product(VX, transpose(V))
    values, R = eigh(S)
    values, R = values[..., ::-1], transpose(R[..., ::-1])
    shift = jnp.maximum(values[..., -1:], 0)[..., None] / 2
    iterated = product(R, VX - shift * V)
    U = product(R[..., :num_tail, :], V)
    residuals = iterated[..., :num_tail, :] - (values[..., :num_tail, None] - shift) * U
    # The others' images have the same products with residuals as the others' residuals.
    error = _error(values, residuals, iterated[..., num_tail:, :])
    scale = scale[..., 0, 0]
    tail = (R[..., :num_tail, :], U, scale * values[..., 0])
    following = _orthonormal(_seeded(normalized(iterated, axis=-1)))
    return following, *tail, error, scale * S[..., 0, 0]


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
