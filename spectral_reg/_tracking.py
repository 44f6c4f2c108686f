"""Spectra followed from step to step with products alone, no decomposition."""

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._algebra import product, scale_of, transpose
from ._eigenvalues import along, as_matrices, eigenvectors, gram, tall
from ._stacks import anywhere, in_turn

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
# Eigenvalues of a Gram matrix below this many roundings of the largest are noise (up to 0.5 in
# float32, on matrices of rank 3 to 256 up to 4096 x 384). As zeros they count for no rank.
RESOLUTION = 2

Sweep = tuple[jax.Array, jax.Array, jax.Array]


def no_vectors(W: jax.Array) -> jax.Array:
    """Zeros ``[..., M, M]``, from which :func:`tracked_eigenvalues` begins with a decomposition."""
    W = tall(as_matrices(W))
    return jnp.zeros((*W.shape[:-2], W.shape[-1], W.shape[-1]), W.dtype)


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


def _track(X: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    scale = scale_of(X)
    X = X / scale

    def sweep(state: Sweep) -> Sweep:
        V, _, count = state
        S = product(transpose(V), product(X, V))
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
    values, rows = _turn_neighbours(transpose(V), X)
    return scale[..., 0] * values, transpose(rows)


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
    num, images = rows.shape[-1], product(rows, X)
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
    square = product(E, E)
    V = V + product(V, E + square / 2 + product(square, E) / 8)
    return 1.5 * V - 0.5 * product(V, product(transpose(V), V))
