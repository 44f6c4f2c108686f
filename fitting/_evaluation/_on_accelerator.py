"""Eigenvalues of Gram matrices on the accelerator that JAX has."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@cache
def has_accelerator() -> bool:
    """Whether JAX computes in float64 on something faster than this CPU."""
    import jax

    return jax.default_backend() == "gpu"


def gram_eigenvalues(blocks: Iterable[np.ndarray], scale: float) -> Floats | None:
    """Ascending, of the sum of block^T block / scale^2; None where an entry is not finite.

    The blocks travel in their own type. Products and the reduction to three diagonals, which is all
    but the last bit of the work, are the accelerator's; vectors are never made.
    """
    import jax
    from scipy.linalg import eigvalsh_tridiagonal

    with jax.enable_x64(True):
        gram: Any = 0.0
        for block in blocks:
            part = jax.numpy.asarray(block).astype("float64") / scale
            gram += jax.numpy.matmul(part.T, part, precision="highest")
        if not bool(jax.numpy.isfinite(gram.diagonal()).all()):
            return None
        _, diagonal, beside, _ = jax.lax.linalg.tridiagonal(gram)
    values: Floats = eigvalsh_tridiagonal(
        np.asarray(diagonal), np.asarray(beside), lapack_driver="sterf", check_finite=False
    )
    return values
