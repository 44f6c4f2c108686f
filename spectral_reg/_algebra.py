"""Products, transposes and lengths of stacks of matrices, as what follows spectra uses them."""

import jax
import jax.numpy as jnp

from ._blocks import HIGHEST


def product(A: jax.Array, B: jax.Array) -> jax.Array:
    """A B in full precision, of which the default is less on a GPU or TPU."""
    return jnp.matmul(A, B, precision=HIGHEST)


def transpose(A: jax.Array) -> jax.Array:
    """The matrices of a stack, transposed."""
    return jnp.swapaxes(A, -1, -2)


def normalized(vectors: jax.Array, axis: int = -2) -> jax.Array:
    """Vectors of length 1 along an axis, columns by default; those of length 0 stay zeros."""
    lengths = jnp.linalg.norm(vectors, axis=axis, keepdims=True)
    return jnp.where(lengths > 0, vectors / jnp.where(lengths > 0, lengths, 1), 0)
