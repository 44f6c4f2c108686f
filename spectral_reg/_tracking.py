"""Spectra followed from step to step with products alone, no decomposition."""

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._blocks import HIGHEST
from ._eigenvalues import along, as_matrices, eigenvectors, gram, singular_vectors, tall
from ._stacks import eigh, orthonormal

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
# Rounds in which neighbours are turned by their whole angle, each pair by itself.
NUM_ROUNDS = 4
# Vectors iterated for lambda_max: the KEPT best, and for the FOLLOWED best of them the residual and
# the last move. One alone loses the way for tens of steps where two eigenvalues cross at the top,
# and a penalty on the top brings them together: in 1,000 steps of MiniAlexNet with the spectral
# norm penalized its error is up to 4e-4 with these, 3e-3 with two and one, for the same two passes.
KEPT, FOLLOWED = 4, 2
TOP = KEPT + 2 * FOLLOWED

Sweep = tuple[jax.Array, jax.Array, jax.Array]


def initial_vectors(W: jax.Array) -> jax.Array:
    """Right singular vectors ``[..., M, M]`` to start :func:`tracked_eigenvalues` from."""
    return singular_vectors(tall(as_matrices(W)))


def initial_top_vectors(W: jax.Array) -> jax.Array:
    """Top right singular vectors ``[..., M, TOP]`` to start :func:`tracked_norms` from."""
    return initial_vectors(W)[..., ::-1][..., :TOP]


def tracked_eigenvalues(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Eigenvalues of W^T W from the singular vectors of a slightly different W.

    .. math:: S = V^T W^T W V, \quad E_{ij} = \frac{S_{ij} d_{ij}}{d_{ij}^2 + \delta^2}, \quad
        d_{ij} = S_{jj} - S_{ii}, \quad V \leftarrow V (I + E + E^2 / 2 + E^3 / 8)

    and one Newton-Schulz step back to orthogonality; a second and a third such sweep where the
    vectors turn far, and a decomposition where that is not enough. Last, neighbours in the
    spectrum are turned pair by pair: those that a sweep leaves mixed are the ones so close that it
    is damped, and alpha's gradient tells neighbours apart where xmin lies between them.

    A matrix whose vectors turn too far has its whole stack decomposed; on a mesh of devices,
    where each device has matrices of its own, that matrix alone.

    Args:
        W: Matrices ``[..., rows, cols]``.
        V: Vectors of the last step, ``[..., M, M]``.

    Returns:
        Eigenvalues ``[..., M]``, descending, differentiable in ``W``; and the new vectors.
    """
    W = tall(as_matrices(W))
    X, mesh = gram(jax.lax.stop_gradient(W)), sharding.mesh_of(W)
    values, V = _track(X, V) if mesh is None else sharding.spread(_track, X, V, mesh=mesh)
    values = along(W, values, V)
    return jnp.sort(values, axis=-1, descending=True), V


def tracked_norms(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared Frobenius norm and lambda_max by one step of locally optimal conjugate gradients.

    The best vector of the span of V, and for the next step: the few best, and the residuals and
    last moves of the first of these. For the same two passes over W, power iteration would lose the
    way where another eigenvalue rises to the top.

    Args:
        W: Matrices ``[..., rows, cols]``.
        V: Orthonormal vectors of the last step, ``[..., M, TOP]``, the best one first.

    Returns:
        ||W||_F^2 and lambda_max, each ``[...]``, differentiable in ``W``; and the new vectors.

    References:
        Knyazev, Toward the optimal preconditioned eigensolver (LOBPCG), 2001.
    """
    W = tall(as_matrices(W))
    constant, mesh = jax.lax.stop_gradient(W), sharding.mesh_of(W)
    if mesh is not None:
        x, followed = sharding.spread(_climb, V, sharding.gram_times(constant, V), mesh=mesh)
        top = along(W, sharding.squared_column_norms(constant, x), x)[..., 0]
        return jnp.sum(W * W, axis=(-2, -1)), top, followed
    WV = _product(constant, V)
    XV = _product(_transpose(constant), WV)
    x, followed = _climb(V, XV, _product(_transpose(WV), WV))
    Wx = _product(W, x)
    return jnp.sum(W * W, axis=(-2, -1)), jnp.sum(Wx * Wx, axis=(-2, -1)), followed


def _climb(V: jax.Array, XV: jax.Array, S: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """The best vector in the span of V, and the span for the next step."""
    values, ritz = eigh(_product(_transpose(V), XV) if S is None else S)
    values, ritz = values[..., ::-1], ritz[..., ::-1]
    best = _product(V, ritz[..., :KEPT])
    followed = ritz[..., :FOLLOWED]
    residuals = _product(XV, followed) - values[..., None, :FOLLOWED] * best[..., :FOLLOWED]
    moves = _product(V[..., KEPT:], followed[..., KEPT:, :])
    columns = (best, _normalized(residuals), _normalized(moves))
    return best[..., :1], orthonormal(jnp.concatenate(columns, axis=-1))


def _normalized(columns: jax.Array) -> jax.Array:
    lengths = jnp.linalg.norm(columns, axis=-2, keepdims=True)
    return jnp.where(lengths > 0, columns / jnp.where(lengths > 0, lengths, 1), 0)


def _track(X: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    def sweep(state: Sweep) -> Sweep:
        V, _, count = state
        angles = _jacobi_angles(_product(_transpose(V), _product(X, V)))
        squares = jnp.sum(jnp.square(angles), axis=(-2, -1)) / angles.shape[-1]
        return _rotate(V, angles), jnp.sqrt(jnp.max(squares)), count + 1

    def is_unsettled(state: Sweep) -> jax.Array:
        return (state[1] > MAX_ROTATION) & (state[2] < MAX_SWEEPS)

    start = (V, jnp.full((), jnp.inf, V.dtype), jnp.zeros((), int))
    turned, rotation, _ = jax.lax.while_loop(is_unsettled, sweep, start)
    V = jax.lax.cond(
        rotation <= MAX_ROTATION,  # false of NaN too
        lambda: turned,
        lambda: eigenvectors(X),
    )
    values, rows = _turn_neighbours(_transpose(V), X)
    return values, _transpose(rows)


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
    angles = jnp.where(denominator > 0, S * d / jnp.where(denominator > 0, denominator, 1), 0)
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
