"""What an optimizer's state knows about the spectra, as flat scalars."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._by_layer_factors import LayerFactorsState
from ._optax_state import SpectralPenaltyState
from ._watch import SpectralWatchState

STATES = (SpectralPenaltyState, SpectralWatchState, LayerFactorsState)


def spectral_values(opt_state: Any, *, limit: int | None = None) -> dict[str, jax.Array]:
    """All metrics and factors in an optimizer's state, as scalars by name.

    Args:
        opt_state: The state of any Optax transformation that has a :func:`watch_spectra`, an
            :func:`add_spectral_penalty`, a :func:`scale_by_layer_spectra` or an
            :func:`add_decayed_weights_by_spectra` anywhere in it; or an object that holds such a
            state as ``opt_state``, such as ``flax.nnx.Optimizer`` or Flax's ``TrainState``.
        limit: A stack of more matrices than this is summarized by the ``min``, ``median`` and
            ``max`` of its values, NaN left out; a smaller one is given matrix by matrix. None for
            no limit.

    Returns:
        A dict from ``metric/path`` (or ``factor/path``), with the index in a stack in brackets, to
        a scalar, sorted by name. Where two parts of the state give one name to one matrix, that of
        the second ends in ``(2)``.

    Raises:
        ValueError: If nothing in the state watches spectra, or the limit is below 0.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> watch = sr.watch_spectra(sr.stable_rank)
        >>> params = {"blocks": {"kernel": jnp.stack([jnp.eye(2), jnp.diag(jnp.arange(1.0, 3))])}}
        >>> _, state = watch.update(params, watch.init(params), params)
        >>> {name: float(value) for name, value in sr.spectral_values(state).items()}
        {'stable_rank/blocks/kernel[0]': 2.0, 'stable_rank/blocks/kernel[1]': 1.25}
        >>> [*sr.spectral_values(state, limit=1)][0]
        'stable_rank/blocks/kernel/max'

    Cost: only the medians. It also works inside ``jit``. The values are arrays, and ``float`` of
    one waits for the step to finish, so log the values of the step before.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; expected at least 0, or None for no limit")
    opt_state = getattr(opt_state, "opt_state", opt_state)
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, STATES))
    found: dict[str, jax.Array] = {}
    for state in nodes:
        if isinstance(state, STATES):
            for name, value in _entries(state):
                for place, scalar in _scalars(jnp.asarray(value), limit):
                    _add(found, name + place, scalar)
    if not found:
        raise ValueError(
            "opt_state has no spectra in it; expected the state of a chain with watch_spectra, "
            "add_spectral_penalty or layer-wise factors"
        )
    return dict(sorted(found.items()))


def _entries(state: Any) -> Iterator[tuple[str, Any]]:
    by_metric = dict(state.values)
    if isinstance(state, LayerFactorsState):
        by_metric["factor"] = state.factors
    for metric, values in by_metric.items():
        for path, value in values.items():
            # Flax nnx keeps each array of a state in a box of its own.
            (array,) = jax.tree.leaves(value)
            yield f"{metric}/{path}", array


def _scalars(value: jax.Array, limit: int | None) -> Iterator[tuple[str, jax.Array]]:
    if not value.shape:
        yield "", value
    elif limit is None or math.prod(value.shape) <= limit:
        for place in np.ndindex(value.shape):
            yield f"[{', '.join(map(str, place))}]", value[place]
    else:
        for name, summary in (("min", jnp.nanmin), ("median", jnp.nanmedian), ("max", jnp.nanmax)):
            yield f"/{name}", summary(value)


def _add(found: dict[str, jax.Array], name: str, value: jax.Array) -> None:
    number, key = 1, name
    while key in found:
        number += 1
        key = f"{name} ({number})"
    found[key] = value
