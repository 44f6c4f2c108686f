"""Sums over the whole spectrum, by products of matrices alone."""

import jax
import jax.numpy as jnp

from . import _sharding as sharding
from ._blocks import HIGHEST
from ._eigenvalues import as_matrices, gram, tall
from ._metrics import matrix_entropy, safe_log
from ._penalty import check_number
from ._spectral_metric import Metric
from ._sums import nuclear_norm, orthogonality

# Odd quintics a s + b s^3 + c s^5, one after the other, take every s in [0.004, 1] to within 0.002
# of 1. A numerical search from Polar Express's coefficients minimized the greatest error.
POLAR = (
    (8.2155, -23.7993, 17.3345),
    (3.8610, -2.9144, 0.5615),
    (3.4310, -2.7678, 0.6092),
    (2.5326, -1.8660, 0.4733),
    (1.7407, -0.9876, 0.2481),
)
# x <- x (a + b x)^2 brings one scale of x after another to about 1, so the logarithm is nearly a
# weighted sum of all these x and their squares: within 0.014 for every x in [1e-3, 1], and 0.053 in
# [1e-5, 1]. Below, it levels off at -12.35. Found by a numerical search.
LOGARITHM = (
    (2.2630, -1.6471),
    (2.4494, -1.7436),
    (2.3496, -1.4153),
    (2.1893, -1.2404),
    (2.0519, -1.3218),
    (1.8329, -1.1813),
    (1.2021, -1.1392),
)
LOGARITHM_WEIGHTS = (
    (-0.76594, 3.18535),
    (-0.55575, 3.31213),
    (-0.53601, 2.45831),
    (-0.47334, 2.16139),
    (-0.94910, 3.12261),
    (1.56704, 1.12155),
    (2.78693, 0.47406),
)
LAST_WEIGHT, CONSTANT = 4.30675, -12.35549


def products_only(metric: Metric) -> Metric:
    r"""A sum over the whole spectrum by at most 16 matrix products, without a decomposition.

    The :func:`nuclear_norm` comes from the polar factor of W, by five odd polynomials of degree 5,
    one applied after the other; the :func:`matrix_entropy` from ln(W^T W), a sum over the results
    of seven polynomials of degree 3 of W^T W; :func:`orthogonality` from W^T W itself, exactly.

    It is meant for matrices too large to decompose at every step, and for accelerators, where a
    decomposition is slow (and, on a TPU, slow to compile). What the polynomials do not resolve is
    smoothed. With :math:`b = (\sum_i \sigma_i^8)^{1/8}`, between sigma_max and M^(1/8) sigma_max:

    - the nuclear norm's gradient along a singular direction, which should be 1, is within 0.002 of
      it where sigma_i > 0.004 b, and falls to 0 with sigma_i below that;
    - the entropy's ln lambda_i is within 0.014 where lambda_i > 1e-3 b^2, within 0.053 where
      lambda_i > 1e-5 b^2, and levels off at ln(b^2) - 12.35 below. The entropy is divided by ln M,
      not by the logarithm of the rank like the exact one.

    Args:
        metric: :func:`nuclear_norm`, :func:`matrix_entropy` or :func:`orthogonality`.

    Returns:
        A metric: ``[..., rows, cols]`` to ``[...]``, with the keyword arguments of the given one.
        As it is not a function of a spectrum, it works with ``tracking="exact"`` only; inside
        :func:`target` and :func:`hinge` too. It has first derivatives only.

    Raises:
        ValueError: If the metric is any other.

    Example:
        >>> import jax, spectral_reg as sr
        >>> W = jax.random.normal(jax.random.key(0), (64, 48))
        >>> print(f"{sr.products_only(sr.nuclear_norm)(W):.1f} {sr.nuclear_norm(W):.1f}")
        348.1 348.1

    Cost, for value and gradient together: 10 products of N M^2 and 5 of M^3 (nuclear norm), 2 and
    14 (entropy), 2 and none (orthogonality). On a mesh of devices, products with W are computed
    where W lies. Zero matrix: 0, gradient 0.

    References:
        Amsel et al., The Polar Express, 2025, arXiv 2505.16932 (composed polynomials).
    """
    for known, by_products in BY_PRODUCTS:
        if metric is known:
            return by_products
    raise ValueError(
        f"metric is {getattr(metric, '__name__', repr(metric))}; expected nuclear_norm, "
        "matrix_entropy or orthogonality; make target or hinge of what this gives"
    )


def _nuclear_norm(W: jax.Array) -> jax.Array:
    W, scale = _scaled(W)
    polar = jax.lax.stop_gradient(W)
    for step, (a, b, c) in enumerate(POLAR):
        X = gram(polar)
        squared = _product(X, X)
        if step == 0:
            bound = _bound(squared)
            polar, X, squared = polar / jnp.sqrt(bound), X / bound, squared / bound**2
        polar = a * polar + _times(polar, b * X + c * squared)
    return scale[..., 0, 0] * jnp.sum(polar * W, axis=(-2, -1))


def _matrix_entropy(W: jax.Array) -> jax.Array:
    W, _ = _scaled(W)
    constant = jax.lax.stop_gradient(W)
    X, mesh = gram(constant), sharding.mesh_of(W)
    log = _logarithm(X) if mesh is None else sharding.spread(_logarithm, X, mesh=mesh)
    image = _times(constant, log)
    # sum_i lambda_i ln lambda_i, whose gradient is 2 W (ln X + I).
    total = _linear(jnp.sum(image * constant, axis=(-2, -1)), 2 * (image + constant), W)
    squared_norm = jnp.sum(W * W, axis=(-2, -1))
    zero = squared_norm <= 0
    entropy = safe_log(squared_norm) - total / jnp.where(zero, 1, squared_norm)
    return jnp.where(zero, 0, entropy / jnp.log(max(2, W.shape[-1])))


def _orthogonality(W: jax.Array, *, scale: float | None = None) -> jax.Array:
    W = tall(as_matrices(W))
    X = gram(jax.lax.stop_gradient(W))
    eye = jnp.eye(X.shape[-1], dtype=X.dtype)
    if scale is None:
        center = jnp.mean(jnp.diagonal(X, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    else:
        check_number("scale", scale)
        center = jnp.full((), scale, X.dtype)
    distance = X - center * jnp.broadcast_to(eye, X.shape)
    value = jnp.sum(jnp.square(distance), axis=(-2, -1))
    return _linear(value, 4 * _times(jax.lax.stop_gradient(W), distance), W)


BY_PRODUCTS: tuple[tuple[Metric, Metric], ...] = (
    (nuclear_norm, _nuclear_norm),
    (matrix_entropy, _matrix_entropy),
    (orthogonality, _orthogonality),
)


def _logarithm(X: jax.Array) -> jax.Array:
    """ln(X) of a positive matrix ``[..., M, M]``, smoothed."""
    squared = _product(X, X)
    bound = _bound(squared)
    x, squared = X / bound, squared / bound**2
    log = jnp.zeros_like(x)
    for step, ((a, b), (weight, weight_of_square)) in enumerate(
        zip(LOGARITHM, LOGARITHM_WEIGHTS, strict=True)
    ):
        if step:
            squared = _product(x, x)
        log += weight * x + weight_of_square * squared
        x = a**2 * x + 2 * a * b * squared + b**2 * _product(x, squared)
    eye = jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=X.dtype), X.shape)
    return log + LAST_WEIGHT * x + (CONSTANT + jnp.log(bound)) * eye


def _scaled(W: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tall matrix divided by its largest entry, and that entry ``[..., 1, 1]``."""
    W = tall(as_matrices(W))
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(W)), axis=(-2, -1), keepdims=True)
    # Not <=: NaN stays NaN.
    scale = jnp.where(largest == 0, 1, largest)
    return W / scale, scale


def _bound(squared: jax.Array) -> jax.Array:
    """At least lambda_max of X ``[..., 1, 1]``, of X X; 1 where that is zero."""
    bound = jnp.sqrt(jnp.linalg.norm(squared, axis=(-2, -1), keepdims=True))
    return jnp.where(bound == 0, 1, bound)


def _linear(value: jax.Array, gradient: jax.Array, W: jax.Array) -> jax.Array:
    """The value, with that derivative in W."""
    value, gradient, here = jax.lax.stop_gradient((value, gradient, W))
    return value + jnp.sum(gradient * (W - here), axis=(-2, -1))


def _times(W: jax.Array, A: jax.Array) -> jax.Array:
    """W A for A ``[..., M, M]``, lying as W does."""
    return _product(W, A) if sharding.mesh_of(W) is None else sharding.times(W, A)


def _product(A: jax.Array, B: jax.Array) -> jax.Array:
    return jnp.matmul(A, B, precision=HIGHEST)
