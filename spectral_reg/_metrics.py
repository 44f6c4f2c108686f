"""Norms, ranks and the entropy of a spectrum."""

import functools

import jax
import jax.numpy as jnp

from ._spectral_metric import norm_metric, spectral_metric

# Half-width in ln(lambda_max) of the guard around the pole of log_stable_rank_ratio.
POLE_WIDTH = 1e-3


def safe_log(x: jax.Array) -> jax.Array:
    """ln(x), and ln(tiny) with a zero derivative where x is 0."""
    tiny = jnp.finfo(x.dtype).tiny
    # Twice where, not maximum: 1 / tiny overflows as soon as something multiplies it.
    return jnp.where(x < tiny, jnp.log(tiny), jnp.log(jnp.where(x < tiny, 1, x)))


def _log_norm(squared: jax.Array) -> jax.Array:
    """ln(sqrt(x)), and ln(tiny) with a zero derivative where x is 0."""
    log_tiny = jnp.log(jnp.finfo(squared.dtype).tiny)
    return jnp.where(squared <= 0, log_tiny, 0.5 * safe_log(squared))


def rank_tolerance(eigenvalues: jax.Array) -> jax.Array:
    """The eigenvalue ``[..., 1]`` below which rounding cannot tell it from 0."""
    # A zero singular value comes out of `eigenvalues` at about eps sigma_max.
    precision = jnp.finfo(eigenvalues.dtype).eps
    return eigenvalues.shape[-1] * precision**2 * eigenvalues[..., :1]


def relative(eigenvalues: jax.Array) -> jax.Array:
    """Eigenvalues over the largest, which is held fixed; a zero spectrum as it is.

    For scale-free functions: the derivative of a quotient squares what stands below, and the square
    of an eigenvalue is soon no float32.
    """
    top = jax.lax.stop_gradient(eigenvalues[..., :1])
    return eigenvalues / jnp.where(top <= 0, 1, top)


@norm_metric
def lambda_max(squared_norm: jax.Array, top: jax.Array) -> jax.Array:
    r"""Largest eigenvalue of W^T W, the squared spectral norm.

    .. math:: \lambda_{max} = \sigma_{max}(W)^2

    (Martin and Mahoney's papers call this one the spectral norm.)

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``, in squared units of W.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.lambda_max(jnp.diag(jnp.array([3.0, 1.0]))))
        9.0

    On a repeated top eigenvalue the gradient is one subgradient. Zero matrix: 0, gradient 0.
    Cost and errors: those of :func:`norm_metric`.
    """
    return top


@norm_metric
def spectral_norm(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""Largest singular value.

    .. math:: \|W\|_2 = \sigma_{max}(W), \quad d\sigma_{max} = u^T dW\, v

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``, in units of W.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.spectral_norm(jnp.diag(jnp.array([3.0, 1.0]))))
        3.0

    On a repeated top singular value the gradient is one subgradient. Zero matrix: 0, gradient 0.
    Cost and errors: those of :func:`norm_metric`.

    References:
        Yoshida and Miyato, Spectral norm regularization, 2017 (they penalize half its square).
    """
    zero = lambda_max <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, lambda_max)))


@norm_metric
def log_spectral_norm(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""Natural logarithm of the spectral norm, ln sigma_max.

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``. Zero matrix: ln of the type's smallest normal number, gradient 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.log_spectral_norm(jnp.eye(3)))
        0.0

    Cost and errors: those of :func:`norm_metric`.

    References:
        Martin and Mahoney, Universality and capacity metrics, Eq. 5 (a layer's term).
    """
    return _log_norm(lambda_max)


@norm_metric
def log_frobenius_norm(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""Natural logarithm of the Frobenius norm, ln ||W||_F.

    .. math:: \ln \|W\|_F = \tfrac12 \ln \sum_i \lambda_i

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``. Zero matrix: ln of the type's smallest normal number, gradient 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.log_frobenius_norm(jnp.ones((1, 1))))
        0.0

    Cost: under jit one pass over W, no decomposition. Errors: those of :func:`norm_metric`.

    References:
        Martin and Mahoney, Universality and capacity metrics, Eq. 5 (a layer's term).
    """
    return _log_norm(squared_norm)


@functools.partial(norm_metric, scale_free=True)
def stable_rank(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""Stable rank, a smooth count of the directions that carry the weight.

    .. math:: \mathcal R_s = \|W\|_F^2 / \lambda_{max} \in [1, M]

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``, scale-free. Zero matrix: 1, gradient 0. Rank one: 1.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.stable_rank(jnp.diag(jnp.array([2.0, 1.0, 1.0]))))
        1.5

    Cost and errors: those of :func:`norm_metric`.

    References:
        Martin and Mahoney, Traditional and Heavy-Tailed Self Regularization, 2019, Section 2.
    """
    zero = lambda_max <= 0
    # Over a number held fixed, for the derivative of a quotient squares what stands below.
    unit = jax.lax.stop_gradient(jnp.where(zero, 1, lambda_max))
    return jnp.where(zero, 1, (squared_norm / unit) / jnp.where(zero, 1, lambda_max / unit))


@functools.partial(norm_metric, scale_free=True)
def log_stable_rank(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""Natural logarithm of the stable rank: the default training penalty.

    .. math:: \ln \mathcal R_s = \ln \|W\|_F^2 - \ln \lambda_{max} \in [0, \ln M]

    Scale-free and without a pole, unlike :func:`log_stable_rank_ratio`.

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``. Zero matrix: 0, gradient 0. Rank one: 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(f"{sr.log_stable_rank(jnp.eye(3)):.4f}")
        1.0986

    Cost and errors: those of :func:`norm_metric`.
    """
    return safe_log(squared_norm) - safe_log(lambda_max)


@norm_metric
def log_stable_rank_ratio(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    r"""The paper's log stable rank: a ratio of logarithms, not the logarithm of a ratio.

    .. math:: \mathcal R_s^{log} = \ln \|W\|_F^2 / \ln \lambda_{max}

    It depends on the scale of W and has a pole at lambda_max = 1. Where ``|ln lambda_max| < 0.001``
    the factor 1 / ln lambda_max is replaced by the odd cubic that continues it smoothly, so value
    and gradient stay finite; they are large there, and mean nothing. To train, prefer
    :func:`log_stable_rank`. For an exact power law the ratio tends to max(1, alpha - 1), not to
    alpha.

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``. Zero matrix: 1, gradient 0. Rank one: 1 away from the pole.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(f"{sr.log_stable_rank_ratio(2 * jnp.eye(4)):.1f}")
        2.0

    Cost and errors: those of :func:`norm_metric`.

    References:
        Martin and Mahoney, Universality and capacity metrics, Eq. 6.
    """
    log_top = safe_log(lambda_max)
    near_pole = jnp.abs(log_top) < POLE_WIDTH
    scaled = jnp.where(near_pole, log_top, 0) / POLE_WIDTH
    cubic = scaled * (2 - scaled**2) / POLE_WIDTH
    reciprocal = jnp.where(near_pole, cubic, 1 / jnp.where(near_pole, 1, log_top))
    return safe_log(squared_norm) * reciprocal


@functools.partial(spectral_metric, scale_free=True)
def matrix_entropy(eigenvalues: jax.Array) -> jax.Array:
    r"""Entropy of the normalized spectrum, between 0 (rank one) and 1 (orthogonal).

    .. math:: \mathcal S = -\frac{1}{\ln \mathrm{rank}} \sum_i p_i \ln p_i, \quad
        p_i = \lambda_i / \sum_j \lambda_j

    The rank counts eigenvalues above M eps^2 lambda_max, and has no gradient.

    Args:
        W: Matrices ``[..., rows, cols]``.

    Returns:
        ``[...]``, scale-free. Zero matrix and rank one: 0, gradient 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(f"{sr.matrix_entropy(jnp.eye(3)):.3f}")
        1.000

    Cost and errors: those of :func:`spectral_metric`.

    References:
        Martin and Mahoney, Implicit Self-Regularization in Deep Neural Networks, 2021, Eq. 6.
    """
    eigenvalues = relative(eigenvalues)
    empty = eigenvalues <= rank_tolerance(eigenvalues)
    rank = jnp.sum(~empty, axis=-1).astype(eigenvalues.dtype)
    total = jnp.sum(eigenvalues, axis=-1, keepdims=True)
    p = jnp.where(empty, 1, eigenvalues / jnp.where(total <= 0, 1, total))
    entropy = -jnp.sum(p * jnp.log(p), axis=-1)
    one = rank < 2
    return jnp.where(one, 0, entropy / jnp.log(jnp.where(one, 2, rank)))
