"""Factors of layers from a metric of all of them: pure functions, without a state."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ._axes import MatrixAxes, arrange

Ratio = Callable[[jax.Array], jax.Array]
Values = dict[str, jax.Array]


def linear_ratio(low: float, high: float, *, keep_mean: bool = True) -> Ratio:
    r"""Factors that rise linearly from the layer of the least metric to that of the largest.

    .. math:: f_i = low + (high - low)
        \frac{m_i - \min_j m_j}{\max_j m_j - \min_j m_j},
        \quad \text{then divided by their mean}

    As published, the factors are not divided by their mean, so that the mean learning rate or decay
    changes with the spectra: a gain may then be owed to it. ``keep_mean=False`` does that.

    Args:
        low: Factor of the layer with the least metric, above 0. Above ``high`` for a falling map.
        high: Factor of the layer with the largest metric, above 0.
        keep_mean: Divide by the mean, so that it is 1 over the layers.

    Returns:
        A function of the metric of all layers ``[num_layers]`` that gives factors
        ``[num_layers]``.

    Raises:
        ValueError: If ``low`` or ``high`` is not above 0 and finite.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.linear_ratio(0.5, 1.5)(jnp.array([2.0, 4.0, 3.0])))
        [0.5 1.5 1. ]

    Where all layers have one metric, each gets the middle of the range. Cost: none to speak of.

    References:
        Zhou et al., Temperature balancing, layer-wise weight analysis, and neural network training,
        2023 (0.5 to 1.5). He et al., AlphaDecay, 2025 (2/3 to 5). He et al., One LR doesn't fit
        all, 2026 (1 to 5). All three without division by the mean.
    """
    for name, number in (("low", low), ("high", high)):
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} is {number}; expected a finite number above 0")

    def ratio(values: jax.Array) -> jax.Array:
        least = jnp.min(values)
        spread = jnp.max(values) - least
        share = jnp.where(spread > 0, (values - least) / jnp.where(spread > 0, spread, 1), 0.5)
        factors = low + (high - low) * share
        return factors / jnp.mean(factors) if keep_mean else factors

    return ratio


def one_a_layer(values: Values, num_batch: dict[str, int]) -> Values:
    """The mean over what is not a stack of layers, such as the positions of a window."""
    return {
        name: jnp.mean(value.reshape(*value.shape[: num_batch[name]], -1), axis=-1)
        for name, value in values.items()
    }


def matrix_names(values: Values) -> list[str]:
    """The path of each matrix, in the order of the values, with its place in a stack."""
    return [
        name if not value.shape else f"{name}[{', '.join(map(str, place))}]"
        for name, value in values.items()
        for place in np.ndindex(value.shape)
    ]


def factors_of(
    values: Values,
    ratio: Ratio,
    *,
    groups: Callable[[str], str] | None,
    permute_layers: jax.Array | None,
    uniform: bool,
) -> tuple[Values, jax.Array]:
    """The factor of each layer, and of how many layers the metric is not finite.

    A layer whose metric is not finite has the factor 1 and no say in the others.

    Raises:
        ValueError: If there are fewer than two layers or groups, or the ratio gives another shape.
    """
    flat = jnp.concatenate([value.reshape(-1) for value in values.values()])
    names = matrix_names(values)
    group_of, num_groups = _numbered([groups(name) if groups else name for name in names])
    if num_groups < 2:
        raise ValueError(
            f"mask and groups leave {num_groups} of {len(names)} layers ({', '.join(names[:3])}); "
            "expected at least 2 to be held against each other"
        )
    finite = jnp.isfinite(flat)
    counts = jnp.zeros(num_groups, flat.dtype).at[group_of].add(finite.astype(flat.dtype))
    totals = jnp.zeros(num_groups, flat.dtype).at[group_of].add(jnp.where(finite, flat, 0))
    known = counts > 0
    means = totals / jnp.maximum(counts, 1)
    # In the middle of the others: neither the least nor the largest of what the ratio sees.
    middle = jnp.sum(jnp.where(known, means, 0)) / jnp.maximum(jnp.sum(known, dtype=means.dtype), 1)
    factors = ratio(jnp.where(known, means, middle))
    if factors.shape != means.shape:
        raise ValueError(
            f"ratio gives shape {factors.shape}; expected {means.shape}, a factor a layer or group"
        )
    if permute_layers is not None:
        factors = factors[_all_moved(permute_layers, num_groups)]
    if uniform:
        factors = jnp.full_like(factors, jnp.mean(factors))
    # A ratio of the user's own may fail on some values; a factor that is no number must not spread.
    usable = jnp.isfinite(factors) & (factors > 0)
    factors = jnp.where(usable & known, factors, 1)[group_of]
    factors = jnp.where(finite, factors, 1)
    ends = np.cumsum([value.size for value in values.values()])[:-1]
    pieces = jnp.split(factors, ends)
    shaped = {
        name: piece.reshape(value.shape)
        for piece, (name, value) in zip(pieces, values.items(), strict=True)
    }
    return shaped, jnp.sum(~finite | ~usable[group_of]).astype(jnp.int32)


def scaled(name: str, factor: jax.Array, axes: MatrixAxes, leaf: jax.Array) -> jax.Array:
    """The leaf, each of its stacked layers times its own factor."""
    wide = np.promote_types(leaf.dtype, factor.dtype)
    factor = factor.astype(wide)
    if not factor.shape:
        return (leaf.astype(wide) * factor).astype(leaf.dtype)

    def as_stack(leaf: jax.Array) -> jax.Array:
        return arrange(name, leaf, axes)[0]

    stack = as_stack(leaf)
    product = stack.astype(wide) * factor.reshape(*factor.shape, *(1,) * (stack.ndim - factor.ndim))
    # To arrange is to permute: its transpose undoes it, whatever the axes are.
    (back,) = jax.linear_transpose(as_stack, leaf)(product.astype(leaf.dtype))
    return back


def _numbered(labels: list[str]) -> tuple[np.ndarray, int]:
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels]), len(order)


def _all_moved(key: jax.Array, size: int) -> jax.Array:
    """A random permutation that leaves nothing in its place: one cycle through all."""
    order = jax.random.permutation(key, size)
    return jnp.zeros(size, order.dtype).at[order].set(jnp.roll(order, -1))
