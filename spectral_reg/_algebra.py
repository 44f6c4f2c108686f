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


def scale_of(array: jax.Array, axis: int | tuple[int, ...] = (-2, -1)) -> jax.Array:
    """A power of 2 near the largest entry along axes, kept with length 1; 1 where all are zeros.

    Divided by it, numbers lose no digit, and their squares neither overflow nor vanish: those of
    eigenvalues do for weights of 1e-10 or 1e9 in float32.
    """
    largest = jnp.max(jnp.abs(array), axis=axis, keepdims=True)
    _, exponent = jnp.frexp(largest)
    return jnp.where(largest > 0, jnp.ldexp(jnp.ones_like(largest), exponent - 1), 1)


def normalized(vectors: jax.Array, axis: int = -2) -> jax.Array:
    """Vectors of length 1 along an axis, columns by default; those of length 0 stay zeros."""
    vectors = vectors / scale_of(vectors, axis)
    lengths = jnp.linalg.norm(vectors, axis=axis, keepdims=True)
    return jnp.where(lengths > 0, vectors / jnp.where(lengths > 0, lengths, 1), 0)
