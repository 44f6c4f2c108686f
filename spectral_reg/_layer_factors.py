"""The factors of all layers from a metric of each: pure functions, without a state."""

import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._axes import MatrixAxes, arrange
from ._hyperparameters import stays_itself
from ._one_body import places_at_run_time

Ratio = Callable[[jax.Array], jax.Array]
Values = dict[str, jax.Array]


def linear_ratio(low: float, high: float, *, keep_mean: bool = True) -> Ratio:
    r"""Factors that rise linearly from the layer with the smallest metric to that with the largest.

    .. math:: f_i = low + (high - low)
        \frac{m_i - \min_j m_j}{\max_j m_j - \min_j m_j},
        \quad \text{then divided by their mean}

    The published methods do not divide by the mean, so that the mean learning rate or decay changes
    with the spectra, and a gain may come from that alone. ``keep_mean=False`` does the same.

    Args:
        low: Factor of the layer with the smallest metric, above 0; larger than ``high`` for a
            falling map.
        high: Factor of the layer with the largest metric, above 0.
        keep_mean: Divide by the mean, so that the factors have mean 1 over the layers, or over the
            groups where layers share one.

    Returns:
        A function from the metric of all layers ``[num_layers]`` to their factors
        ``[num_layers]``.

    Raises:
        ValueError: If ``low`` or ``high`` is not above 0 and finite.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> print(sr.linear_ratio(0.5, 1.5)(jnp.array([2.0, 4.0, 3.0])))
        [0.5 1.5 1. ]

    If all layers have the same metric, each gets the middle of the range. The cost is negligible.

    References:
        Zhou et al., Temperature balancing, layer-wise weight analysis, and neural network training,
        2023 (0.5 to 1.5). He et al., AlphaDecay, 2025 (2/3 to 5). He et al., One LR doesn't fit
        all, 2026 (1 to 5). All three without division by the mean.
    """
    for name, number in (("low", low), ("high", high)):
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} is {number}; expected a finite number above 0")

    @stays_itself
    def ratio(values: jax.Array) -> jax.Array:
        least = jnp.min(values)
        spread = jnp.max(values) - least
        share = jnp.where(spread > 0, (values - least) / jnp.where(spread > 0, spread, 1), 0.5)
        factors = low + (high - low) * share
        return factors / jnp.mean(factors) if keep_mean else factors

    return ratio


def one_a_layer(value: jax.Array, num_batch: int) -> jax.Array:
    """The mean over axes that are no stack of layers, such as the positions in a window."""
    return jnp.mean(value.reshape(*value.shape[:num_batch], -1), axis=-1)


def matrix_names(values: Values) -> list[str]:
    """The path of each matrix, with its index in a stack, in the order of the values."""
    return [
        name if not value.shape else f"{name}[{', '.join(map(str, place))}]"
        for name, value in values.items()
        for place in np.ndindex(value.shape)
    ]


def check_dealing(groups: Any, permute_layers: Any) -> None:
    """Refuses groups that are no function, and what no layers can be permuted by.

    Raises:
        TypeError: If it is so.
    """
    if groups is not None and not callable(groups):
        raise TypeError(
            f"groups is {groups!r}; expected a function from the path of a matrix to a name"
        )
    if permute_layers is not None and not _is_key(permute_layers):
        raise TypeError(
            f"permute_layers is {permute_layers!r}; expected a random key: jax.random.key(0)"
        )


def factors_of(
    values: Values,
    ratio: Ratio,
    *,
    groups: Callable[[str], str] | None,
    permute_layers: jax.Array | None,
    uniform: bool,
) -> tuple[Values, jax.Array]:
    """The factor of each layer, and the number of layers whose metric or factor is no number.

    A layer whose metric is not finite gets the factor 1 and does not affect the others.

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
    # The mean of the others: neither the smallest nor the largest value that the ratio sees.
    middle = jnp.sum(jnp.where(known, means, 0)) / jnp.maximum(jnp.sum(known, dtype=means.dtype), 1)
    factors = ratio(jnp.where(known, means, middle))
    if factors.shape != means.shape:
        raise ValueError(
            f"ratio gives shape {factors.shape}; expected {means.shape}, a factor a layer or group"
        )
    # A user's own ratio may fail on some values; a factor that is not a number must not spread.
    usable = jnp.isfinite(factors) & (factors > 0)
    factors = jnp.where(usable & known, factors, 1)
    if permute_layers is not None:
        factors = factors[_all_moved(permute_layers, num_groups)]
    if uniform:
        # Over the layers, which is what a rate acts on, and not over their groups.
        factors = jnp.full_like(factors, jnp.mean(factors[group_of]))
    factors = jnp.where(finite, factors[group_of], 1)
    ends = np.cumsum([value.size for value in values.values()]).tolist()
    starts = places_at_run_time([0, *ends[:-1]], jnp.sum(counts >= 0))
    shaped = {
        name: jax.lax.dynamic_slice_in_dim(factors, start, value.size).reshape(value.shape)
        for start, (name, value) in zip(starts, values.items(), strict=True)
    }
    return shaped, jnp.sum(~finite | ~usable[group_of]).astype(jnp.int32)


def scaled(name: str, factor: jax.Array, axes: MatrixAxes, leaf: jax.Array) -> jax.Array:
    """The leaf, with each of its stacked layers multiplied by its own factor."""
    wide = np.promote_types(leaf.dtype, factor.dtype)
    factor = factor.astype(wide)
    if not factor.shape:
        return (leaf.astype(wide) * factor).astype(leaf.dtype)

    def as_stack(leaf: jax.Array) -> jax.Array:
        return arrange(name, leaf, axes)[0]

    stack = as_stack(leaf)
    product = stack.astype(wide) * factor.reshape(*factor.shape, *(1,) * (stack.ndim - factor.ndim))
    # Arranging only permutes entries, so its transpose undoes it, whatever the axes are.
    (back,) = jax.linear_transpose(as_stack, leaf)(product.astype(leaf.dtype))
    return back


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key.ndim == 0 if is_typed else key.ndim == 1 and key.dtype == jnp.uint32


def _numbered(labels: list[str]) -> tuple[np.ndarray, int]:
    if odd := [label for label in labels if not isinstance(label, Hashable)]:
        raise TypeError(f"groups gives {odd[0]!r}; expected the name of a group")
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels]), len(order)


def _all_moved(key: jax.Array, size: int) -> jax.Array:
    """A random permutation that leaves nothing in place: a single cycle through everything."""
    order = jax.random.permutation(key, size)
    return jnp.zeros(size, order.dtype).at[order].set(jnp.roll(order, -1))
