"""Spectra followed from step to step with products alone, no decomposition."""

import jax
import jax.numpy as jnp

from ._eigenvalues import HIGHEST, as_matrices, gram, singular_vectors, tall

# Pairs closer than this, relative to their eigenvalues, are turned less than Jacobi's angle says:
# inside a cluster the vectors are arbitrary, and chasing them diverges.
DAMPING = 3e-3
MAX_ANGLE = 0.1
# Largest share of an eigenvector that may lie outside its own direction before a step, as the
# root mean square over the spectrum; past it the vectors are decomposed afresh.
MAX_DEPARTURE = 0.1


def initial_vectors(W: jax.Array) -> jax.Array:
    """Right singular vectors ``[..., M, M]`` to start :func:`tracked_eigenvalues` from."""
    return singular_vectors(tall(as_matrices(W)))


def initial_top_vector(W: jax.Array) -> jax.Array:
    """Top right singular vector ``[..., M]`` to start :func:`tracked_norms` from."""
    return initial_vectors(W)[..., -1]


def tracked_eigenvalues(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Eigenvalues of W^T W from the singular vectors of a slightly different W.

    .. math:: S = V^T W^T W V, \quad E_{ij} = \frac{S_{ij} d_{ij}}{d_{ij}^2 + \delta^2}, \quad
        d_{ij} = S_{jj} - S_{ii}, \quad V \leftarrow V (I + E)

    and one Newton-Schulz step back to orthogonality. Where the vectors have departed too far, they
    come from a decomposition instead.

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


def tracked_norms(W: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Squared Frobenius norm and lambda_max by one step of power iteration.

    Args:
        W: Matrices ``[..., rows, cols]``.
        v: Top right singular vector of the last step, ``[..., M]``.

    Returns:
        ||W||_F^2 and lambda_max, each ``[...]``, differentiable in ``W``; and the new vector.
    """
    W = tall(as_matrices(W))
    v = _power_iteration(jax.lax.stop_gradient(W), v)
    Wv = jnp.einsum("...nm,...m->...n", W, v, precision=HIGHEST)
    return jnp.sum(W * W, axis=(-2, -1)), jnp.sum(Wv * Wv, axis=-1), v


def _power_iteration(W: jax.Array, v: jax.Array) -> jax.Array:
    u = jnp.einsum("...nm,...m->...n", W, v, precision=HIGHEST)
    z = jnp.einsum("...nm,...n->...m", W, u, precision=HIGHEST)
    length = jnp.linalg.norm(z, axis=-1, keepdims=True)
    return jnp.where(length > 0, z / jnp.where(length > 0, length, 1), v)


def _track(W: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    X = gram(W)
    XV = _product(X, V)
    S = _product(_transpose(V), XV)
    values = jnp.diagonal(S, axis1=-2, axis2=-1)
    departure = _departure(XV, V, values)
    # A NaN departure must decompose too: only a comparison that it fails lets it through.
    V = jax.lax.cond(
        jnp.all(departure <= MAX_DEPARTURE),
        lambda: _rotate(V, S, values),
        lambda: jnp.linalg.eigh(X, symmetrize_input=False)[1],
    )
    return jnp.sum(V * _product(X, V), axis=-2), V


def _departure(XV: jax.Array, V: jax.Array, values: jax.Array) -> jax.Array:
    """Root mean square over the vectors of ||X v - l v|| / l, the sine of the angle of X v to v."""
    residual = jnp.sum(jnp.square(XV - V * values[..., None, :]), axis=-2)
    scale = jnp.square(values)
    return jnp.sqrt(jnp.mean(jnp.where(scale > 0, residual / jnp.where(scale > 0, scale, 1), 0)))


def _rotate(V: jax.Array, S: jax.Array, values: jax.Array) -> jax.Array:
    d = values[..., None, :] - values[..., :, None]
    delta = DAMPING * (values[..., None, :] + values[..., :, None]) / 2
    denominator = d * d + delta * delta
    angles = jnp.where(denominator > 0, S * d / jnp.where(denominator > 0, denominator, 1), 0)
    V = V + _product(V, jnp.clip(angles, -MAX_ANGLE, MAX_ANGLE))
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
