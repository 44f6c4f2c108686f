"""Spectra followed from step to step with products alone, no decomposition."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._blocks import HIGHEST
from ._eigenvalues import along, as_matrices, eigenvectors, gram, tall
from ._stacks import anywhere, eigh, in_turn, orthonormal

# Pairs closer than this, relative to their eigenvalues, are turned less than Jacobi's angle says:
# inside a cluster the vectors are arbitrary, and chasing all pairs of it at once diverges.
DAMPING = 3e-5
MAX_ANGLE = 0.2
# Root mean square over the vectors of the angle that a sweep turns them by; past it another sweep
# follows, and past MAX_SWEEPS a decomposition. What a sweep leaves is of second order in this: at
# 0.2 the gradient's cosine fell to 0.991 where five steps were taken as one, at 0.1 to 0.998. In
# 600 steps of MiniAlexNet on CIFAR-10 at b = 32 one step turned them by 0.08 (median), two by 0.13
# and five by 0.23.
MAX_ROTATION = 0.1
MAX_SWEEPS = 3
# Relative error of the trace past which vectors are no orthonormal basis.
MAX_TRACE = 1e-3
# Rounds in which neighbours are turned by their whole angle, each pair by itself.
NUM_ROUNDS = 4
# Vectors iterated for lambda_max: the KEPT best, and for the FOLLOWED best of them the residual and
# the last move. One alone loses the way for tens of steps where two eigenvalues cross at the top,
# and a penalty on the top brings them together: in 1,000 steps of MiniAlexNet with the spectral
# norm penalized its error was up to 4e-4 with four and two, 3e-3 with two and one. Four and four
# know all of a cluster of four from the start on, for the same two passes.
KEPT, FOLLOWED = 4, 4
TOP = KEPT + 2 * FOLLOWED

# Relative residual of the top vector past which another such step follows, and how far a norm may
# move between two steps of training before the vectors count as those of another matrix.
MAX_ERROR = 0.02
MAX_ERROR_AT_START = 1e-3
MAX_CLIMBS = 100
MAX_JUMP = 0.5

# Eigenvalues of a Gram matrix below this many roundings of the largest are noise (up to 0.5 in
# float32, on matrices of rank 3 to 256 up to 4096 x 384). As zeros they count for no rank.
RESOLUTION = 2

Sweep = tuple[jax.Array, jax.Array, jax.Array]


class Climb(NamedTuple):
    """A state of the search for the top: vectors, the best one, its error and bound, and steps."""

    vectors: jax.Array
    best: jax.Array
    error: jax.Array
    bound: jax.Array
    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count


class TopVectors(NamedTuple):
    """What :func:`tracked_norms` goes on from.

    Attributes:
        vectors: Orthonormal, ``[..., M, TOP]``, the best one first.
        squared_norm: ||W||_F^2 of the step that they are from, ``[...]``.
        lambda_max: Likewise.
    """

    vectors: jax.Array
    squared_norm: jax.Array
    lambda_max: jax.Array


def no_vectors(W: jax.Array) -> jax.Array:
    """Zeros ``[..., M, M]``, from which :func:`tracked_eigenvalues` begins with a decomposition."""
    W = tall(as_matrices(W))
    return jnp.zeros((*W.shape[:-2], W.shape[-1], W.shape[-1]), W.dtype)


def no_top_vectors(W: jax.Array) -> TopVectors:
    """Zeros, from which :func:`tracked_norms` begins with vectors of its own."""
    W = tall(as_matrices(W))
    batch = W.shape[:-2]
    vectors = jnp.zeros((*batch, W.shape[-1], min(TOP, W.shape[-1])), W.dtype)
    return TopVectors(vectors, jnp.zeros(batch, W.dtype), jnp.zeros(batch, W.dtype))


def tracked_eigenvalues(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Eigenvalues of W^T W from the singular vectors of a slightly different W.

    .. math:: S = V^T W^T W V, \quad E_{ij} = \frac{S_{ij} d_{ij}}{d_{ij}^2 + \delta^2}, \quad
        d_{ij} = S_{jj} - S_{ii}, \quad V \leftarrow V (I + E + E^2 / 2 + E^3 / 8)

    and one Newton-Schulz step back to orthogonality; a second and a third such sweep where the
    vectors turn far, and a decomposition where that is not enough. Last, neighbours in the
    spectrum are turned pair by pair: those that a sweep leaves mixed are the ones so close that it
    is damped, and alpha's gradient tells neighbours apart where xmin lies between them.

    A matrix whose vectors turn too far, or are none, is decomposed; on an accelerator its whole
    stack is. So is one after a step that was not finite.

    Args:
        W: Matrices ``[..., rows, cols]``.
        V: Vectors of the last step, ``[..., M, M]``.

    Returns:
        Eigenvalues ``[..., M]``, descending, differentiable in ``W``, 0 where they are not
        resolved; and the new vectors.
    """
    W = tall(as_matrices(W))
    X, mesh = gram(jax.lax.stop_gradient(W)), sharding.mesh_of(W)
    values, V = _track(X, V) if mesh is None else sharding.spread(_track, X, V, mesh=mesh)
    values = along(W, values, V)
    floor = RESOLUTION * jnp.finfo(values.dtype).eps * jnp.max(values, axis=-1, keepdims=True)
    values = jnp.where(values < floor, 0, values)
    return jnp.sort(values, axis=-1, descending=True), V


def tracked_norms(W: jax.Array, last: TopVectors) -> tuple[jax.Array, jax.Array, TopVectors]:
    """Squared Frobenius norm and lambda_max by a step of locally optimal conjugate gradients.

    The best vector of the span of V, and for the next step: the few best, and the residuals and
    last moves of the first of these. For the same two passes over W, power iteration would lose the
    way where another eigenvalue rises to the top.

    More steps follow while the residual is above its bound. Where a norm is far from what it was,
    or nothing is known, they begin with random vectors: those of another matrix may be exact
    eigenvectors of this one, of other eigenvalues, which no residual tells.

    Args:
        W: Matrices ``[..., rows, cols]``.
        last: What the last step left.

    Returns:
        ||W||_F^2 and lambda_max, each ``[...]``, differentiable in ``W``; and what is left.

    References:
        Knyazev, Toward the optimal preconditioned eigensolver (LOBPCG), 2001.
    """
    W = tall(as_matrices(W))
    constant, mesh = jax.lax.stop_gradient(W), sharding.mesh_of(W)
    squared_norm = jnp.sum(W * W, axis=(-2, -1))
    last = jax.tree.map(lambda array: sharding.everywhere(array, mesh), last)
    known_norm = sharding.everywhere(jax.lax.stop_gradient(squared_norm), mesh)
    changed = _has_jumped(known_norm, last.squared_norm)

    def climb(state: Climb) -> Climb:
        if mesh is not None:
            images = sharding.gram_times(constant, state.vectors)
            best, vectors, known, errors = sharding.spread(_climb, state.vectors, images, mesh=mesh)
        else:
            WV = _product(constant, state.vectors)
            images = _product(_transpose(constant), WV)
            S = _product(_transpose(WV), WV)
            best, vectors, known, errors = _climb(state.vectors, images, S)
        lost = (state.count == 0) & (changed | _has_jumped(known, last.lambda_max))
        vectors = jax.lax.cond(
            anywhere(jnp.any(lost)), lambda: _restarted(vectors, lost), lambda: vectors
        )
        bound = jnp.where(lost, MAX_ERROR_AT_START, state.bound)
        # Any that is kept may be the best at the next step: at a start all are to be known.
        error = jnp.where(bound < MAX_ERROR, jnp.max(errors, axis=-1), errors[..., 0])
        error = jnp.where(lost, jnp.inf, error)
        return Climb(vectors, best, error, bound, state.count + 1)

    def is_unsettled(state: Climb) -> jax.Array:
        above = jnp.any(state.error > state.bound)  # false of NaN
        return anywhere(above) & (state.count < MAX_CLIMBS)

    unknown = jnp.full_like(last.lambda_max, jnp.inf)
    bound = jnp.full_like(last.lambda_max, MAX_ERROR)
    start = Climb(last.vectors, last.vectors[..., :1], unknown, bound, jnp.zeros((), int))
    end = jax.lax.while_loop(is_unsettled, climb, start)
    if mesh is not None:
        squared = sharding.squared_column_norms(constant, end.best)
        top = along(W, squared, end.best)[..., 0]
    else:
        Wx = _product(W, end.best)
        top = jnp.sum(Wx * Wx, axis=(-2, -1))
    return squared_norm, top, TopVectors(end.vectors, known_norm, jax.lax.stop_gradient(top))


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
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The best vector in the span of V, and the span for the next step.

    Also what the first of V says lambda_max is, and the residuals of the best, relative to it.
    """
    S = _product(_transpose(V), XV) if S is None else S
    values, ritz = eigh(S)
    values, ritz = values[..., ::-1], ritz[..., ::-1]
    best = _product(V, ritz[..., :KEPT])
    followed = ritz[..., :FOLLOWED]
    residuals = _product(XV, followed) - values[..., None, :FOLLOWED] * best[..., :FOLLOWED]
    moves = _product(V[..., KEPT:], followed[..., KEPT:, :])
    columns = (best, _normalized(residuals), _normalized(moves))
    errors, top = jnp.linalg.norm(residuals, axis=-2), values[..., :1]
    errors = jnp.where(top > 0, errors / jnp.where(top > 0, top, 1), 0)
    span = orthonormal(jnp.concatenate(columns, axis=-1))
    return best[..., :1], span, S[..., 0, 0], errors


def _normalized(columns: jax.Array) -> jax.Array:
    lengths = jnp.linalg.norm(columns, axis=-2, keepdims=True)
    return jnp.where(lengths > 0, columns / jnp.where(lengths > 0, lengths, 1), 0)


def _track(X: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    def sweep(state: Sweep) -> Sweep:
        V, _, count = state
        S = _product(_transpose(V), _product(X, V))
        angles = _jacobi_angles(S)
        squares = jnp.sum(jnp.square(angles), axis=(-2, -1)) / angles.shape[-1]
        # Of vectors that are not there, or not orthonormal, the angles say nothing.
        rotation = jnp.where(_is_complete(S, X), jnp.sqrt(squares), jnp.inf)
        return _rotate(V, angles), rotation, count + 1

    def is_unsettled(state: Sweep) -> jax.Array:
        far = jnp.any((state[1] > MAX_ROTATION) & jnp.isfinite(state[1]))
        return anywhere(far) & (state[2] < MAX_SWEEPS)

    unknown = jnp.full(X.shape[:-2], MAX_ROTATION + 1, V.dtype)
    start = (V, unknown, jnp.zeros((), int))
    turned, rotation, _ = jax.lax.while_loop(is_unsettled, sweep, start)
    settled = rotation <= MAX_ROTATION  # false of NaN
    V = jax.lax.cond(
        anywhere(~jnp.all(settled)),
        lambda: in_turn(_decomposed)(X, turned, settled[..., None, None]),
        lambda: turned,
    )
    values, rows = _turn_neighbours(_transpose(V), X)
    return values, _transpose(rows)


def _is_complete(S: jax.Array, X: jax.Array) -> jax.Array:
    """Whether the vectors with which X became S leave its trace as it is."""
    trace, of_X = (jnp.trace(A, axis1=-2, axis2=-1) for A in (S, X))
    return jnp.abs(trace - of_X) <= MAX_TRACE * of_X


def _decomposed(X: jax.Array, V: jax.Array, settled: jax.Array) -> jax.Array:
    """Eigenvectors of each X whose own have not settled."""
    keep = jnp.broadcast_to(settled, V.shape)
    return jax.lax.cond(jnp.all(settled), lambda: V, lambda: jnp.where(keep, V, eigenvectors(X)))


def _turn_neighbours(rows: jax.Array, X: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues, descending but for the last digits, and vectors as rows."""
    # As rows, because rounds on columns take three times as long.
    num, images = rows.shape[-1], _product(rows, X)
    order = jnp.argsort(jnp.sum(rows * images, axis=-1), axis=-1, descending=True)[..., None]
    # One last vector of zeros where the number is odd: nothing turns towards it.
    padding = [(0, 0)] * (rows.ndim - 2) + [(0, num % 2), (0, 0)]
    rows, images = (
        jnp.pad(jnp.take_along_axis(A, order, axis=-2), padding) for A in (rows, images)
    )
    for turn in range(NUM_ROUNDS):
        shift = turn % 2
        rows, images = (jnp.roll(A, -shift, axis=-2) for A in (rows, images))
        rows, images = _turn_pairs(rows, images, shift)
        rows, images = (jnp.roll(A, shift, axis=-2) for A in (rows, images))
    rows, images = rows[..., :num, :], images[..., :num, :]
    return jnp.sum(rows * images, axis=-1), rows


def _turn_pairs(rows: jax.Array, images: jax.Array, shift: int) -> tuple[jax.Array, jax.Array]:
    """Diagonalizes X on the span of rows 0 and 1, of 2 and 3, and so on."""
    *batch, num, size = rows.shape
    pairs, images = (A.reshape(*batch, num // 2, 2, size) for A in (rows, images))
    v, w, Xv, Xw = pairs[..., 0, :], pairs[..., 1, :], images[..., 0, :], images[..., 1, :]
    d, mixed = jnp.sum(w * Xw - v * Xv, axis=-1), jnp.sum(v * Xw, axis=-1)
    angle = jnp.arctan2(jnp.where(d < 0, -2, 2) * mixed, jnp.abs(d)) / 2
    # Rolled by one, the last pair is the smallest and the largest.
    angle = jnp.where(jnp.arange(num // 2) < num // 2 - shift, angle, 0)[..., None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def turn(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.stack([cos * a - sin * b, sin * a + cos * b], axis=-2).reshape(rows.shape)

    return turn(v, w), turn(Xv, Xw)


def _jacobi_angles(S: jax.Array) -> jax.Array:
    values = jnp.diagonal(S, axis1=-2, axis2=-1)
    d = values[..., None, :] - values[..., :, None]
    delta = DAMPING * (values[..., None, :] + values[..., :, None]) / 2
    denominator = d * d + delta * delta
    # NaN stays NaN: angles of 0 would count as settled.
    same = denominator <= 0
    angles = jnp.where(same, 0, S * d / jnp.where(same, 1, denominator))
    return jnp.clip(angles, -MAX_ANGLE, MAX_ANGLE)


def _rotate(V: jax.Array, E: jax.Array) -> jax.Array:
    # Orthogonal up to E^6 / 64: what a lower order leaves feeds back, divided by the gaps of a
    # dense spectrum, and I + E alone diverges within twenty steps of real training.
    square = _product(E, E)
    V = V + _product(V, E + square / 2 + _product(square, E) / 8)
    return 1.5 * V - 0.5 * _product(V, _product(_transpose(V), V))


def _product(A: jax.Array, B: jax.Array) -> jax.Array:
    return jnp.matmul(A, B, precision=HIGHEST)


def _transpose(A: jax.Array) -> jax.Array:
    return jnp.swapaxes(A, -1, -2)
