"""Where the largest eigenvalue of pure noise lies: the Tracy-Widom law of order 1."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import check_sides

# The law is 0 or 1 to 1e-11 outside; the kernel has decayed to 1e-16 at the reach.
SUPPORT = (-8.5, 10.0)
REACH = 22.0


@lru_cache(maxsize=1)
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return (nodes + 1) * REACH / 2, np.sqrt(weights * REACH / 2)


@lru_cache(maxsize=4096)
def _cdf(s: float) -> float:
    if math.isnan(s):
        return s
    if s <= SUPPORT[0]:
        return 0.0
    if s >= SUPPORT[1]:
        return 1.0
    # scipy takes longer to import than numpy, and most users of the package never come here
    from scipy.special import airy

    nodes, weights = _quadrature()
    kernel = airy(nodes[:, None] + nodes + s)[0]
    return float(np.linalg.det(np.eye(nodes.size) - weights[:, None] * kernel * weights))


def tracy_widom_cdf(s: ArrayLike) -> NDArray[np.float64]:
    r"""Distribution function of the Tracy-Widom law of order 1.

    .. math:: F_1(s) = \det(1 - K_s), \qquad K_s(x, y) = \mathrm{Ai}(x + y + s), \quad x, y > 0

    The determinant is taken by Gauss-Legendre quadrature, so there is no table.

    Args:
        s: Standardized largest eigenvalues, any shape.

    Returns:
        Probabilities, the shape of s.

    Example:
        >>> import fitting
        >>> round(float(fitting.tracy_widom_cdf(0.9793)), 4)
        0.95

    NaN in, NaN out. Cost: a determinant of 48 x 48 a value, kept for the next call.

    References:
        P. Ferrari and H. Spohn, 2005 (the determinant); F. Bornemann, 2010 (the quadrature).
    """
    s = np.asarray(s, dtype=np.float64)
    return np.reshape([_cdf(float(value)) for value in s.ravel()], s.shape).astype(np.float64)


@lru_cache(maxsize=256)
def tracy_widom_quantile(p: float) -> float:
    """Quantile of the Tracy-Widom law of order 1.

    Args:
        p: Probability, between 0 and 1, both excluded.

    Returns:
        The value that the standardized largest eigenvalue stays below with probability p.

    Raises:
        ValueError: If p is not inside (0, 1).

    Example:
        >>> import fitting
        >>> round(fitting.tracy_widom_quantile(0.999), 3)
        3.272

    Cost: some ten values of :func:`tracy_widom_cdf`, kept for the next call.
    """
    if not 0 < p < 1:
        raise ValueError(f"p is {p}; expected a probability between 0 and 1, both excluded")
    from scipy.optimize import brentq

    return float(brentq(lambda s: _cdf(s) - p, *SUPPORT, xtol=1e-10))


def largest_eigenvalue_law(shape: tuple[int, int]) -> tuple[float, float]:
    r"""Centre and scale of the largest eigenvalue of W^T W for noise of unit variance.

    .. math:: \mu = (\sqrt{n} + \sqrt{m})^2, \qquad
        s = (\sqrt{n} + \sqrt{m}) (n^{-1/2} + m^{-1/2})^{1/3}

    with :math:`n = N - 1/2` and :math:`m = M - 1/2`, the choice that makes :math:`(\lambda_{max} -
    \mu)/s` Tracy-Widom of order 1 to the second order in small matrices.

    Args:
        shape: Sides of the matrix, in either order.

    Returns:
        (centre, scale).

    Raises:
        ValueError: If the shape is not two positive sides.

    Example:
        >>> import fitting
        >>> centre, scale = fitting.largest_eigenvalue_law((400, 100))
        >>> round(centre, 1), round(scale, 2)
        (897.7, 15.93)

    References:
        I. Johnstone, 2001 (centre and scale); Z. Ma, 2012 (the halves).
    """
    N, M = check_sides(shape)
    long, short = N - 0.5, M - 0.5
    roots = np.sqrt(long) + np.sqrt(short)
    return float(roots**2), float(roots * (long**-0.5 + short**-0.5) ** (1 / 3))
