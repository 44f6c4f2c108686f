"""Spectra followed from step to step with products alone, no decomposition."""

import jax
import jax.numpy as jnp

from ._eigenvalues import HIGHEST, as_matrices, gram, singular_vectors, tall

# Pairs closer than this, relative to their eigenvalues, are turned less than Jacobi's angle says:
# inside a cluster the vectors are arbitrary, and chasing them diverges.
DAMPING = 1e-3
MAX_ANGLE = 0.2
# Root mean square over the vectors of the angle that one step would turn them by; past it they are
# decomposed afresh. Training MiniAlexNet at its fastest turns them by 0.12. Four of its steps taken
# as one turn them by up to 0.25 and more, and from there the rotations can diverge.
MAX_ROTATION = 0.2
# Vectors iterated for lambda_max. One alone loses the way for tens of steps where two eigenvalues
# cross at the top; four cost the same two passes over W.
TOP = 4


def initial_vectors(W: jax.Array) -> jax.Array:
    """Right singular vectors ``[..., M, M]`` to start :func:`tracked_eigenvalues` from."""
    return singular_vectors(tall(as_matrices(W)))


def initial_top_vectors(W: jax.Array) -> jax.Array:
    """Top right singular vectors ``[..., M, TOP]`` to start :func:`tracked_norms` from."""
    return initial_vectors(W)[..., ::-1][..., :TOP]


def tracked_eigenvalues(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Eigenvalues of W^T W from the singular vectors of a slightly different W.

    .. math:: S = V^T W^T W V, \quad E_{ij} = \frac{S_{ij} d_{ij}}{d_{ij}^2 + \delta^2}, \quad
        d_{ij} = S_{jj} - S_{ii}, \quad V \leftarrow V (I + E + E^2 / 2)

    and one Newton-Schulz step back to orthogonality. Where the vectors would have to turn too far,
    they come from a decomposition instead.

    Args:
        W: Matrices ``[..., rows, cols]``.
        V: Vectors of the last step, ``[..., M, M]``.

    Returns:
        Eigenvalues ``[..., M]``, descending, differentiable in ``W``; and the new vectors.
    """
    W = tall(as_matrices(W))
    values, V = _track(jax.lax.stop_gradient(W), V)
    values = _with_gradient(W, values, V)
    return jnp.sort(values, axis=-1, descending=True), V


def tracked_norms(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared Frobenius norm and lambda_max by one step of locally optimal conjugate gradients.

    The best vector x of the span of V, and for the next step: x, the runner-up, the residual of x
    and the direction in which x moved. For the same two passes over W, power iteration would lose
    the way where another eigenvalue rises to the top.

    Args:
        W: Matrices ``[..., rows, cols]``.
        V: Orthonormal vectors of the last step, ``[..., M, TOP]``, the best one first.

    Returns:
        ||W||_F^2 and lambda_max, each ``[...]``, differentiable in ``W``; and the new vectors.

    References:
        Knyazev, Toward the optimal preconditioned eigensolver (LOBPCG), 2001.
    """
    W = tall(as_matrices(W))
    constant = jax.lax.stop_gradient(W)
    WV = _product(constant, V)
    XV = _product(_transpose(constant), WV)
    values, ritz = jnp.linalg.eigh(_product(_transpose(WV), WV))
    best, second = ritz[..., -1:], ritz[..., -2:-1]
    x = _product(V, best)
    residual = _product(XV, best) - values[..., -1:, None] * x
    step = _product(V[..., 1:], best[..., 1:, :])
    columns = [_normalized(c) for c in (x, _product(V, second), residual, step)]
    followed, _ = jnp.linalg.qr(jnp.concatenate(columns, axis=-1))
    Wx = _product(W, x)
    return jnp.sum(W * W, axis=(-2, -1)), jnp.sum(Wx * Wx, axis=(-2, -1)), followed


def _normalized(column: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(column, axis=-2, keepdims=True)
    return jnp.where(length > 0, column / jnp.where(length > 0, length, 1), 0)


def _track(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    X = gram(W)
    angles = _jacobi_angles(_product(_transpose(V), _product(X, V)))
    rotation = jnp.sqrt(jnp.sum(jnp.square(angles), axis=(-2, -1)) / angles.shape[-1])
    V = jax.lax.cond(
        jnp.all(rotation <= MAX_ROTATION),  # false of NaN too
        lambda: _rotate(V, angles),
        lambda: jnp.linalg.eigh(X, symmetrize_input=False)[1],
    )
    return jnp.sum(V * _product(X, V), axis=-2), V


def _jacobi_angles(S: jax.Array) -> jax.Array:
    values = jnp.diagonal(S, axis1=-2, axis2=-1)
    d = values[..., None, :] - values[..., :, None]
    delta = DAMPING * (values[..., None, :] + values[..., :, None]) / 2
    denominator = d * d + delta * delta
    angles = jnp.where(denominator > 0, S * d / jnp.where(denominator > 0, denominator, 1), 0)
    return jnp.clip(angles, -MAX_ANGLE, MAX_ANGLE)


def _rotate(V: jax.Array, E: jax.Array) -> jax.Array:
    # To second order: what I + E alone leaves of orthogonality feeds back, divided by the gaps of a
    # dense spectrum, and diverges within twenty steps of real training.
    V = V + _product(V, E + _product(E, E) / 2)
    return 1.5 * V - 0.5 * _product(V, _product(_transpose(V), V))


def _product(A: jax.Array, B: jax.Array) -> jax.Array:
    return jnp.matmul(A, B, precision=HIGHEST)


def _transpose(A: jax.Array) -> jax.Array:
    return jnp.swapaxes(A, -1, -2)


@jax.custom_vjp
def _with_gradient(W: jax.Array, values: jax.Array, V: jax.Array) -> jax.Array:
    """The values, with the derivative dl_i = 2 (W v_i)^T dW v_i."""
    del W, V
    return values


def _with_gradient_forward(
    W: jax.Array, values: jax.Array, V: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return values, (W, V)


def _with_gradient_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, None, None]:
    W, V = saved
    # 2 W (V diag(g) V^T): one product with W, where (W V) diag(g) V^T would need two.
    weighted = _product(V * cotangent[..., None, :], _transpose(V))
    return 2 * _product(W, weighted), None, None


_with_gradient.defvjp(_with_gradient_forward, _with_gradient_backward)
