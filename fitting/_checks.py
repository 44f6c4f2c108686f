"""What is asked of eigenvalues, of a matrix and of its shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sorted_spectrum(eigenvalues: ArrayLike) -> NDArray[np.float64]:
    """Eigenvalues as a sorted float64 vector, or a ValueError that says what is wrong with them."""
    refuse_masked("eigenvalues", eigenvalues)
    values = np.asarray(eigenvalues)
    if values.ndim != 1:
        raise ValueError(
            f"eigenvalues has shape {values.shape}; expected a vector [M]; of a matrix pass the "
            "squared singular values"
        )
    if values.size == 0:
        raise ValueError("eigenvalues is empty; expected at least one")
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        # bfloat16 and its kin are no subtype of np.number, yet cast well
        try:
            values = values.astype(np.float64, casting="same_kind")
        except TypeError:
            raise ValueError(
                f"eigenvalues has dtype {values.dtype}; expected real numbers; cast them to float64"
            ) from None
    values = np.sort(values.astype(np.float64, copy=False))
    # NaN sorts to the end and -inf to the front: the two ends say it all
    if not np.isfinite(values[-1]) or not np.isfinite(values[0]):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise ValueError(
            f"eigenvalues has {bad} of {values.size} that are NaN or infinite; expected finite "
            "numbers; look for NaN in the weights"
        )
    if values[0] < 0:
        raise ValueError(
            f"eigenvalues has {values[0]:.6g}; expected squared singular values, of at least 0; "
            "where an eigensolver has rounded, clip with numpy.maximum(eigenvalues, 0)"
        )
    return values


def check_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """A float64 matrix with finite entries, or a ValueError that says what came instead."""
    refuse_masked("matrix", matrix)
    if np.iscomplexobj(matrix):
        raise ValueError("matrix is complex; expected real numbers")
    entries = np.asarray(matrix, dtype=np.float64)
    if entries.ndim != 2 or 0 in entries.shape:
        raise ValueError(
            f"matrix has shape {entries.shape}; expected [rows, cols], neither of them 0"
        )
    if not np.all(np.isfinite(entries)):
        raise ValueError(
            f"matrix has {np.count_nonzero(~np.isfinite(entries))} entries that are NaN or "
            "infinite; expected finite numbers; look for NaN in the weights"
        )
    return entries


def check_shape(values: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int]:
    """(N, M) of the matrix, or a ValueError if it cannot have these eigenvalues."""
    long, short = check_sides(shape)
    if values.size != short:
        raise ValueError(
            f"eigenvalues has {values.size}; expected {short} for a matrix of shape "
            f"{tuple(shape)}: one squared singular value for each of its short side, zeros included"
        )
    return long, short


def check_sides(shape: tuple[int, int]) -> tuple[int, int]:
    """(N, M) of a shape in either order, or a ValueError if it is none of a matrix."""
    if np.shape(shape) != (2,) or not all(
        isinstance(side, int | np.integer) and side >= 1 for side in shape
    ):
        raise ValueError(
            f"shape is {shape}; expected the two sides of a matrix, whole numbers of at least 1"
        )
    return int(max(shape)), int(min(shape))


def refuse_masked(name: str, array: ArrayLike) -> None:
    """A ValueError for a masked array with masked entries, which NumPy would silently unmask."""
    if np.ma.is_masked(array):
        num_masked = int(np.ma.count_masked(array))
        raise ValueError(
            f"{name} is a masked array with {num_masked} masked entries; expected none; leave them "
            "out by compressed(), or put a value in their place by filled()"
        )
