"""The largest eigenvalues followed from step to step by block power iteration."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._algebra import product, transpose
from ._eigenvalues import along, as_matrices, eigenvalues, tall
from ._ritz import improve
from ._stacks import anywhere, in_turn, orthonormal

# Where one iteration was not enough, others follow until the error is this share of what is
# allowed; at a start, where the estimate is of vectors that are still far off, until it is less.
AFTER_ALARM, AFTER_START = 0.5, 0.05
MAX_ITERATIONS = 40
# Vectors followed for each one of the tail: near the edge of a bulk eigenvalues fall so slowly with
# their rank that twice as many take several iterations a step. Past this share of the spectrum they
# fall faster, and twice as many do.
FOLLOWED, LEAST_FOLLOWED, FOLLOWED_SHARE = 2.75, 2, 0.3
# How far the largest eigenvalue may move between two steps of training before the vectors count as
# those of another matrix. They may be exact eigenvectors of this one too, but not of its largest
# eigenvalues, and then no residual shows it.
MAX_JUMP = 0.5


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
    V, one = transpose(last.vectors), partial(improve, num_tail=num_tail)
    if mesh is None:
        search = in_turn(
            lambda W, V, known: _search(partial(_times, W), one, V, known[..., 0, 0], num_tail)
        )
        end = search(constant, V, last.lambda_max[..., None, None])
        values = _along(W, product(end.rotation, end.images), end.ritz_vectors)
    else:
        end = _search(
            partial(_times_on_mesh, constant),
            partial(sharding.spread, one, mesh=mesh),
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
