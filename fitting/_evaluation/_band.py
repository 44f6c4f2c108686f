"""Eigenvalues of large symmetric matrices, reduced to a band in products of matrices.

LAPACK's way to three diagonals reads all that is left of the matrix again for each column, and from
memory. Here it is read twice for each :data:`BAND` columns, and the band takes little from there.
"""

import ctypes

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Diagonals below the main one that are left. Fewer make thinner products, more a longer way on.
BAND = 48
# Rows that are multiplied at a time, so that what is added to them stays in the cache.
ROWS = 128


def eigenvalues_by_band(lower: Floats) -> Floats:
    """Ascending, of the lower triangle of ``lower [n, n]``, which is overwritten.

    Reads rows, so let it be in row-major order. Errors are some epsilons of the largest.

    References:
        Bischof, Lang and Sun, A framework for symmetric band reduction, ACM TOMS 26 (2000).
    """
    for start in range(BAND, len(lower) - 1, BAND):
        panel, rest = lower[start:, start - BAND : start], lower[start:, start:]
        V, T, R = _reflect(panel)
        panel[:] = 0
        panel[: len(R)] = R
        _reflect_both_sides(rest, V, T)
    diagonals = [
        np.pad(lower.diagonal(-below), (0, below)) for below in range(min(BAND + 1, len(lower)))
    ]
    return _of_band(np.array(diagonals, order="F"))


def _of_band(diagonals: Floats) -> Floats:
    """Of a matrix of diagonals ``[below, column]`` in column-major order, which are overwritten.

    SciPy's eigvals_banded holds Python's lock all the while, and other threads wait for it.
    """
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("scipy.linalg.cython_lapack", "dsbevd")
    dsbevd = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 14)(address)
    height, size = diagonals.shape
    values, vectors, work = np.empty(size), np.empty(1), np.empty(2 * size)
    unused, info = ctypes.c_int(0), ctypes.c_int(0)
    one, below, order = ctypes.c_int(1), ctypes.c_int(height - 1), ctypes.c_int(size)
    stride, length = ctypes.c_int(height), ctypes.c_int(len(work))
    dsbevd(
        *(b"N", b"L", ctypes.byref(order), ctypes.byref(below)),
        *(diagonals.ctypes.data, ctypes.byref(stride), values.ctypes.data),
        *(vectors.ctypes.data, ctypes.byref(one), work.ctypes.data, ctypes.byref(length)),
        *(ctypes.byref(unused), ctypes.byref(one), ctypes.byref(info)),
    )
    if info.value:
        raise np.linalg.LinAlgError(f"the eigenvalues of a band did not converge: {info.value}")
    return values


def _reflect(panel: Floats) -> tuple[Floats, Floats, Floats]:
    """The Householder reflections I - V T V^T of a QR decomposition, and its R."""
    packed, factors = np.linalg.qr(panel, mode="raw")
    width = len(factors)
    V = np.tril(packed.T[:, :width], -1)
    np.fill_diagonal(V, 1.0)
    products = V.T @ V
    T = np.diag(factors)
    for i in range(1, width):
        T[:i, i] = -factors[i] * (T[:i, :i] @ products[:i, i])
    return V, T, np.triu(packed.T[:width])


def _reflect_both_sides(lower: Floats, V: Floats, T: Floats) -> None:
    """(I - V T V^T)^T A (I - V T V^T), of the lower triangle of A, in place."""
    VT = V @ T
    W = _times(lower, VT)
    W -= V @ (VT.T @ W) / 2
    left, right = np.hstack([V, W]), np.hstack([W, V]).T
    for start in range(0, len(lower), ROWS):
        end = start + ROWS
        lower[start:end, :end] -= left[start:end] @ right[:, :end]


def _times(lower: Floats, X: Floats) -> Floats:
    """A X of the lower triangle of A."""
    product = np.zeros_like(X)
    for start in range(0, len(lower), ROWS):
        end = start + ROWS
        before, block = lower[start:end, :start], np.tril(lower[start:end, start:end])
        product[start:end] += before @ X[:start] + (block + np.tril(block, -1).T) @ X[start:end]
        product[:start] += before.T @ X[start:end]
    return product
