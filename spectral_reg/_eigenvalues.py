"""Eigenvalues of W^T W with a derivative that is finite on every spectrum."""

import jax
import jax.numpy as jnp
import numpy as np

from . import _sharding as sharding
from ._blocks import HIGHEST
from ._stacks import eigh


def eigenvalues(W: jax.Array, *, normalize: bool = False) -> jax.Array:
    r"""Squared singular values of a matrix, in descending order, differentiable.

    .. math:: X = W^T W, \quad \lambda_1 \ge \dots \ge \lambda_M \ge 0, \quad
        d\lambda_i = 2\, (W v_i)^T dW\, v_i

    The derivative needs no derivative of an eigenvector, hence no 1 / (l_i - l_j): it is finite
    for repeated, zero and rank-one spectra. Where eigenvalues repeat, it is one of the
    subgradients of any function that does not depend on their order.

    The spectrum comes from one eigendecomposition of the M x M Gram matrix, and each eigenvalue is
    then taken as ||W v_i||^2, from the product that the derivative needs anyway. That recovers the
    small end, which a float32 Gram matrix alone loses below 1e-7 lambda_max: on a 4096 x 384
    matrix of rank 192, the zero eigenvalues come out at 2e-13 lambda_max instead of 2e-7.

    Args:
        W: Matrices ``[..., rows, cols]``, real; the leading axes are a batch. bfloat16 and float16
            are decomposed in float32, and their gradient comes back in their own type.
        normalize: Divide by N = max(rows, cols), for X = W^T W / N.

    Returns:
        Eigenvalues ``[..., M]``, descending, M = min(rows, cols). NaN where ``W`` has NaN.

    Raises:
        ValueError: If ``W`` has fewer than two axes, or an empty one.
        TypeError: If ``W`` is not of a real floating-point type.

    Example:
        >>> import jax.numpy as jnp
        >>> import spectral_reg as sr
        >>> print(sr.eigenvalues(jnp.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])))
        [9. 1.]

    Cost: three products of N M^2 and one M x M eigendecomposition for value and gradient together.
    Forward mode and ``vmap`` work. Second derivatives work where the eigenvalues differ, and are
    NaN where they repeat.

    On a mesh of devices the products stay where W lies, the matrices of a stack are decomposed on
    different devices, and the eigenvalues are on all of them. A mesh of Explicit axes is seen in
    the type of W; one of Auto axes also, or from ``jax.set_mesh``. Reverse mode only.

    References:
        Magnus, On differentiating eigenvalues and eigenvectors, 1985, Theorem 1.
    """
    W = as_matrices(W)
    result = spectrum(W)
    return result / max(W.shape[-2:]) if normalize else result


def spectrum(W: jax.Array) -> jax.Array:
    """Eigenvalues of W^* W, of real or complex matrices in float32 or wider."""
    return (_tall_eigenvalues if sharding.mesh_of(W) is None else _sharded_eigenvalues)(tall(W))


def as_matrices(W: jax.Array, name: str = "W") -> jax.Array:
    """Checks that W is a batch of real matrices and gives it in float32 or wider."""
    W = jnp.asarray(W)
    if W.ndim < 2 or 0 in W.shape[-2:]:
        raise ValueError(
            f"{name} has shape {W.shape}; expected matrices [..., rows, cols] with at least one "
            "row and one column"
        )
    if not jnp.issubdtype(W.dtype, jnp.floating):
        raise TypeError(
            f"{name} has dtype {W.dtype}; expected a real floating-point type, such as float32"
        )
    return W.astype(np.promote_types(W.dtype, jnp.float32))


def tall(W: jax.Array) -> jax.Array:
    """The matrix with its longer side first."""
    return W if W.shape[-2] >= W.shape[-1] else jnp.swapaxes(W, -1, -2)


def gram(W: jax.Array) -> jax.Array:
    """W^* W in full precision, of which the default is less on a GPU or TPU."""
    if sharding.mesh_of(W) is not None:
        return sharding.gram(W)
    return jnp.einsum("...ni,...nj->...ij", W.conj(), W, precision=HIGHEST)


def singular_vectors(W: jax.Array) -> jax.Array:
    """Right singular vectors ``[..., M, M]`` of a tall matrix as columns, ascending."""
    X, mesh = gram(W), sharding.mesh_of(W)
    return eigenvectors(X) if mesh is None else sharding.spread(eigenvectors, X, mesh=mesh)


def eigenvectors(X: jax.Array) -> jax.Array:
    """Eigenvectors ``[..., M, M]`` of a symmetric or Hermitian matrix as columns, ascending."""
    return eigh(X)[1]


def _decompose(W: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    V = singular_vectors(W)
    WV = jnp.matmul(W, V, precision=HIGHEST)
    squared_norms = jnp.sum((WV.conj() * WV).real, axis=-2)
    # Below the resolution of the Gram matrix eigh's order is arbitrary. Sorting the M values is
    # free; sorting the columns of V and WV would not be.
    order = jnp.argsort(squared_norms, axis=-1, descending=True)
    return jnp.take_along_axis(squared_norms, order, axis=-1), V, WV, order


@jax.custom_jvp
def _tall_eigenvalues(W: jax.Array) -> jax.Array:
    return _decompose(W)[0]


@_tall_eigenvalues.defjvp
def _tall_eigenvalues_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (W,), (dW,) = primals, tangents
    values, V, WV, order = _decompose(W)
    dWV = jnp.matmul(dW, V, precision=HIGHEST)
    derivatives = 2 * jnp.sum((WV.conj() * dWV).real, axis=-2)
    return values, jnp.take_along_axis(derivatives, order, axis=-1)


def _sharded_eigenvalues(W: jax.Array) -> jax.Array:
    constant = jax.lax.stop_gradient(W)
    V = singular_vectors(constant)
    values = along(W, sharding.squared_column_norms(constant, V), V)
    return jnp.sort(values, axis=-1, descending=True)


@jax.custom_vjp
def along(W: jax.Array, values: jax.Array, V: jax.Array) -> jax.Array:
    """Eigenvalues ``[..., K]``, with the derivative dl_i = 2 Re (W v_i)^* dW v_i."""
    del W, V
    return values


def _along_forward(
    W: jax.Array, values: jax.Array, V: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return values, (W, V)


def _along_backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, None, None]:
    W, V = saved
    # JAX's gradient of |z|^2 is 2 conj(z).
    W, weighted = W.conj(), V.conj() * cotangent[..., None, :].astype(V.dtype)
    if sharding.mesh_of(W) is not None:
        return 2 * sharding.times(W, weighted, V), None, None
    # 2 W (V diag(g) V^T): one product with W, where (W V) diag(g) V^T would need two.
    weighted = jnp.matmul(weighted, jnp.swapaxes(V, -1, -2), precision=HIGHEST)
    return 2 * jnp.matmul(W, weighted, precision=HIGHEST), None, None


along.defvjp(_along_forward, _along_backward)


def largest_eigenvalue(W: jax.Array) -> jax.Array:
    """lambda_max of W^T W, with the gradient 2 (W v) v^T: no product of N M^2 beyond the Gram's."""
    W = tall(W)
    if sharding.mesh_of(W) is None:
        return _tall_largest_eigenvalue(W)
    constant = jax.lax.stop_gradient(W)
    v = singular_vectors(constant)[..., -1:]
    return along(W, sharding.squared_column_norms(constant, v), v)[..., 0]


@jax.custom_jvp
def _tall_largest_eigenvalue(W: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(_times(W, singular_vectors(W)[..., -1])), axis=-1)


@_tall_largest_eigenvalue.defjvp
def _tall_largest_eigenvalue_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (W,), (dW,) = primals, tangents
    v = singular_vectors(W)[..., -1]
    Wv = _times(W, v)
    return jnp.sum(Wv * Wv, axis=-1), 2 * jnp.sum(Wv * _times(dW, v), axis=-1)


def _times(W: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.einsum("...nm,...m->...n", W, v, precision=HIGHEST)
