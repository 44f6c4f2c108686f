"""Norms of the weights held at what they were, or at those of another run."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._after_step import leading_to, left_by_step, select_trained, wide
from ._axes_argument import Axes, ResolvedAxes
from ._blocks import HIGHEST
from ._eigenvalues import largest_eigenvalue, tall
from ._hyperparameters import unpacked
from ._layer_factors import Values, scaled
from ._layers import Layer, read_layers
from ._optax_state import check_fits, check_params, is_placeholder
from ._tracked_norms import no_top_vectors, tracked_norms, with_those_of
from ._tracked_penalty import Vectors
from ._trees import Mask, PyTree

Kind = Literal["frobenius", "spectral"]


class HeldNormsState(NamedTuple):
    """State of :func:`hold_norms`.

    Attributes:
        count: Steps taken.
        norms: The norm that each layer is held to, by path ``[*stack]``; empty where the norms of
            another run are replayed.
        vectors: Singular vectors by path, where spectral norms are held; otherwise empty.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    norms: Values
    vectors: Vectors


def hold_norms(
    kind: Kind = "frobenius",
    *,
    norms: Mapping[str, jax.Array] | None = None,
    mask: Mask = None,
    axes: Axes = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Holds the norm of each layer's weight at its first value, or at that of a recorded run.

    .. math:: W_l + u_l \leftarrow \frac{n_l}{\|W_l + u_l\|} (W_l + u_l)

    The control for every claim about the shape of a spectrum: the same run without the penalty, but
    with the norms that the weights had with it. It comes last in the chain, as it acts on the
    weights that the step would leave.

    Before a normalization the scale of a weight does not matter to the output, and its norm sets
    the effective learning rate, in proportion to :math:`1 / \|W\|^2` for SGD and
    :math:`1 / \|W\|` for Adam: runs with different norms are runs at different learning rates.

    Args:
        kind: ``"frobenius"``, or ``"spectral"`` for the largest singular value, which is followed
            from step to step as by ``tracking="warm"``.
        norms: Those of a recorded run, by path ``[num_steps, *stack]``, starting with the norms
            after the first step; past the end the last are held. :func:`layer_norms` records them.
            None holds each layer at the norm that it starts with.
        mask: Which leaves, as for :func:`layer_matrices`; the others keep their updates.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`. Each layer of
            a stack is held separately, and a convolution as a whole.

    Returns:
        The transformation; ``update`` needs ``params``.

    Raises:
        TypeError: If ``norms`` is no mapping.
        ValueError: If ``kind`` is unknown, the paths or shapes of the norms are not those of the
            layers, or as for :func:`layer_matrices`.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> optimizer = optax.chain(optax.sgd(1.0), sr.hold_norms())
        >>> params = {"fc": {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]])}}
        >>> gradient = {"fc": {"kernel": jnp.array([[3.0, 0.0], [0.0, 0.0]])}}
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(params["fc"]["kernel"] + updates["fc"]["kernel"])
        [[0. 0.]
         [0. 5.]]

    Cost: one pass over each weight for the Frobenius norm, two for the spectral norm. A weight that
    the step leaves at zero stays zero, and one that starts at zero is held there: leave it out with
    ``mask``. In bfloat16 the norm is held as far as rounding allows.
    """
    if kind not in ("frobenius", "spectral"):
        raise ValueError(f"kind is {kind!r}; expected 'frobenius' or 'spectral'")
    if norms is not None and not isinstance(norms, Mapping):
        raise TypeError(
            f"norms is {type(norms).__name__}; expected a mapping from path to [num_steps, *stack]:"
            " jax.tree.map(lambda *steps: jnp.stack(steps), *record) makes one of a list of"
            " layer_norms"
        )
    mask = unpacked(mask)
    recorded = None if norms is None else {name: jnp.asarray(n) for name, n in norms.items()}

    def start(leaves: Mapping[str, jax.Array], resolved: ResolvedAxes) -> tuple[Values, Vectors]:
        vectors = {}
        if kind == "spectral":
            layers = _layers(leaves, resolved)
            vectors = {name: no_top_vectors(layer.weight) for name, layer in layers.items()}
        return _norms(leaves, resolved, kind) if recorded is None else {}, vectors

    def check_record(found: Values) -> None:
        came, expected = (
            {name: tuple(norm.shape) for name, norm in values.items()}
            for values in (recorded or {}, found)
        )
        if {n: s[1:] for n, s in came.items()} != expected or not all(
            s and s[0] for s in came.values()
        ):
            raise ValueError(
                f"norms is of shapes {came}; expected one more axis in front, of steps, than "
                f"{expected}: record those of a run of the same model, mask and axes"
            )

    def init(params: PyTree) -> HeldNormsState:
        zero = jnp.zeros((), jnp.int32)
        if is_placeholder(params):
            # No part of the state is a tree like the parameters.
            return HeldNormsState(zero, zero, zero)  # type: ignore[arg-type]
        leaves, resolved = select_trained(params, mask, axes, "hold_norms")
        if recorded is None:
            return HeldNormsState(zero, *start(leaves, resolved))
        check_record(jax.eval_shape(lambda leaves: _norms(leaves, resolved, kind), leaves))
        return HeldNormsState(zero, *start(leaves, resolved))

    def update(
        updates: PyTree, state: HeldNormsState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, HeldNormsState]:
        del extra
        check_params(params)
        leaves, resolved = select_trained(params, mask, axes, "hold_norms")
        after = left_by_step(updates, leaves)
        expected = jax.eval_shape(lambda leaves: start(leaves, resolved), leaves)
        for what, came, shapes in zip(("norms", "vectors"), state[1:], expected, strict=True):
            check_fits(what, came, shapes)
        if kind == "spectral":
            found, vectors = _followed(leaves, after, resolved, state.vectors)
        else:
            found, vectors = _norms(after, resolved, kind), state.vectors
        if recorded is None:
            held = state.norms
        else:
            check_record(found)
            held = {name: norm.at[state.count].get(mode="clip") for name, norm in recorded.items()}

        def rescaled(name: str, weight: jax.Array) -> jax.Array:
            size = found[name]
            factor = jnp.where(size > 0, held[name] / jnp.where(size > 0, size, 1), 1)
            return scaled(name, factor.astype(size.dtype), resolved[name], weight)

        weights = {name: rescaled(name, weight) for name, weight in after.items()}
        return leading_to(weights, updates, leaves), HeldNormsState(
            optax.safe_increment(state.count), state.norms, vectors
        )

    return optax.GradientTransformationExtraArgs(init, update)


def layer_norms(
    params: PyTree, kind: Kind = "frobenius", *, mask: Mask = None, axes: Axes = None
) -> Values:
    """The norm of each layer's weight, as :func:`hold_norms` expects them in a record.

    Args:
        params: The parameters, as for :func:`layer_matrices`.
        kind: ``"frobenius"``, or ``"spectral"`` for the largest singular value.
        mask: As for :func:`hold_norms`.
        axes: As for :func:`hold_norms`.

    Returns:
        Path to ``[*stack]``, in float32 or wider: one norm for each layer of a stack, and one for a
        whole convolution (the spectral norm is the largest over its window).

    Raises:
        ValueError: If ``kind`` is unknown, or as for :func:`layer_matrices`.

    Example:
        >>> import jax, jax.numpy as jnp, spectral_reg as sr
        >>> params = {"fc": {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]])}}
        >>> for kind in ("frobenius", "spectral"):
        ...     print(sr.layer_norms(params, kind)["fc/kernel"])
        5.0
        4.0
        >>> record = [sr.layer_norms(params) for step in range(3)]  # in the loop, after each step
        >>> norms = jax.tree.map(lambda *steps: jnp.stack(steps), *record)
        >>> norms["fc/kernel"].shape
        (3,)

    Cost: one pass over each weight, or one decomposition each for the spectral norm. A zero matrix
    has norm zero.
    """
    if kind not in ("frobenius", "spectral"):
        raise ValueError(f"kind is {kind!r}; expected 'frobenius' or 'spectral'")
    return _norms(*select_trained(params, mask, axes, "layer_norms"), kind)


def _layers(leaves: Mapping[str, jax.Array], resolved: ResolvedAxes) -> dict[str, Layer]:
    everything = dict.fromkeys(leaves, True)
    return read_layers(leaves, mask=everything, conv="slices", axes=resolved) if leaves else {}


def _norms(leaves: Mapping[str, jax.Array], resolved: ResolvedAxes, kind: Kind) -> Values:
    norms = {}
    for name, layer in _layers(leaves, resolved).items():
        W, num_batch = wide(layer.weight), layer.num_batch
        if kind == "spectral":
            norms[name] = _largest(largest_eigenvalue(W), num_batch)
        else:
            flat = W.reshape(*W.shape[:num_batch], -1)
            # A product sums in blocks; a plain sum in float32 is off by 1e-6 at 1,000 entries.
            norms[name] = jnp.sqrt(jnp.einsum("...i,...i->...", flat, flat, precision=HIGHEST))
    return norms


def _followed(
    before: Mapping[str, jax.Array],
    after: Mapping[str, jax.Array],
    resolved: ResolvedAxes,
    vectors: Vectors,
) -> tuple[Values, Vectors]:
    """Spectral norms from the vectors of the last step, and the vectors of this one."""
    norms, followed, starts = {}, {}, _layers(before, resolved)
    for name, layer in _layers(after, resolved).items():
        W, last = wide(layer.weight), vectors[name]
        change = tall(W - wide(starts[name].weight))
        last = last._replace(vectors=with_those_of(change, last.vectors))
        _, top, followed[name] = tracked_norms(W, last)
        norms[name] = _largest(top, layer.num_batch)
    return norms, followed


def _largest(top: jax.Array, num_batch: int) -> jax.Array:
    return jnp.sqrt(jnp.max(top, axis=tuple(range(num_batch, top.ndim))))
