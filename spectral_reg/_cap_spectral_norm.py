"""Largest singular values held below a bound."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import _sharding as sharding
from ._after_step import leading_to, left_by_step, select_trained, wide
from ._axes_argument import Axes, ResolvedAxes
from ._clip import clipped, clipped_along_top, softly_clipped
from ._eigenvalues import tall
from ._hyperparameters import unpacked
from ._layers import CONV_MATRICES, ConvMatrices, read_layers
from ._one_body import in_one_body
from ._optax_state import check_fits, check_params, is_placeholder
from ._stacks import anywhere
from ._tracked_norms import no_top_vectors
from ._tracked_penalty import Vectors
from ._trees import Mask, PyTree

# How far the norm of a weight may be, relative to it, from what the last step left: rounding.
MAX_DRIFT = 1e-3


class KnownNorms(NamedTuple):
    """What is known of the matrices of a weight that a step has left.

    Attributes:
        largest: No singular value is above it, ``[...]``.
        frobenius: Their Frobenius norms, ``[...]``.
    """

    largest: jax.Array
    frobenius: jax.Array


class CappedNormsState(NamedTuple):
    """State of :func:`cap_spectral_norm`.

    Attributes:
        count: Steps taken.
        known: By path, what no singular value is above, and the Frobenius norm.
        vectors: Singular vectors by path, where they are followed; else empty.
    """

    count: jax.Array  # type: ignore[assignment]  # Optax's own states shadow tuple.count too
    known: dict[str, Any]  # KnownNorms
    vectors: Vectors


def cap_spectral_norm(
    bound: float | Callable[[jax.Array], jax.Array],
    *,
    soft: bool = False,
    tracking: str = "warm",
    mask: Mask = None,
    conv: ConvMatrices = "slices",
    axes: Axes = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps every singular value of the selected weights at or below a bound.

    .. math:: W + u = U \Sigma V^T, \quad W + u \leftarrow U \min(\Sigma, bound) V^T

    The nearest weight within the bound, in any unitarily invariant norm. It stands last in the
    chain, as it acts on what the step leaves.

    Args:
        bound: The largest singular value that is allowed, or a schedule of the step count.
        soft: Clip by odd polynomials, 40 products of matrices at most, with no vectors in the
            state and nothing decomposed: for accelerators, for stacks, and for optimizers such as
            Muon that bring a large part of the spectrum to the bound. Within 1e-3 of the bound for
            weights that a step leaves at up to 4 times the bound.
        tracking: How the singular values above the bound are found, unless ``soft``. ``"warm"``
            follows the largest from step to step, and decomposes where four or more are within 1 %
            of the bound or above it; ``"exact"`` decomposes at every step.
        mask: Which leaves, as for :func:`layer_matrices`; the others keep their updates.
        conv: ``"slices"`` or ``"flatten"``, as for :func:`layer_matrices`. As a map of whole inputs
            a convolution can have a larger norm than either.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.

    Returns:
        The transformation; ``update`` needs ``params``.

    Raises:
        ValueError: If the bound is not above 0 and finite, ``tracking`` or ``conv`` is unknown, or
            as for :func:`layer_matrices`.

    Example:
        >>> import jax.numpy as jnp, optax, spectral_reg as sr
        >>> optimizer = optax.chain(optax.sgd(1.0), sr.cap_spectral_norm(3.0))
        >>> params = {"fc": {"kernel": jnp.diag(jnp.array([2.0, 1.0]))}}
        >>> gradient = {"fc": {"kernel": jnp.diag(jnp.array([-2.0, 0.0]))}}
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> print(jnp.round(params["fc"]["kernel"] + updates["fc"]["kernel"], 4))
        [[3. 0.]
         [0. 1.]]

    Cost: the norms of the weight and of its step, and no more while the steps since the last look
    cannot have carried a singular value to the bound, however they lie. Then, with ``"warm"``, two
    passes over the weight, and the decomposition of its Gram matrix where many singular values are
    at the bound; with ``soft``, 4 products, and 40 where one may be above. That does not depend on
    the batch: 15 ms for the 27 matrices of the small language model while ten of them are at the
    bound. Its step under AdamW on 1,024 bytes took 1.19 times as long
    (quartiles 1.17 and 1.20), and 1.35 times with ``soft`` (1.34 and 1.36; 2-core EPYC, jax 0.10.2,
    ``python -m benchmarks.caps --steps 200 --optimizers AdamW --caps warm soft``). Degenerate
    spectra: a zero weight stays zero, any number of equal singular values is clipped; NaN stays
    NaN. In bfloat16 the bound holds as far as its rounding allows.

    References:
        Yoshida and Miyato, Spectral norm regularization, 2017, for the aim. Newhouse et al.,
        Training transformers with enforced Lipschitz constants, 2025, for clipping after each step.
    """
    is_number = not callable(bound) and not isinstance(bound, jax.core.Tracer)
    if is_number and not (math.isfinite(bound) and bound > 0):  # type: ignore[arg-type, operator]
        raise ValueError(f"bound is {bound}; expected a finite number above 0, or a schedule")
    if tracking not in ("exact", "warm"):
        raise ValueError(f"tracking is {tracking!r}; expected exact or warm")
    if conv not in CONV_MATRICES:
        raise ValueError(f"conv is {conv!r}; expected one of {', '.join(CONV_MATRICES)}")
    mask = unpacked(mask)
    is_followed = tracking == "warm" and not soft

    def matrices(name: str, leaf: jax.Array, axes: ResolvedAxes) -> jax.Array:
        own = {name: leaf}
        layers = read_layers(
            own, mask={name: True}, conv=conv, axes=ResolvedAxes({name: axes[name]})
        )
        return layers[name].weight

    def start(
        leaves: dict[str, jax.Array], axes: ResolvedAxes
    ) -> tuple[dict[str, KnownNorms], Vectors]:
        weights = {name: wide(matrices(name, leaf, axes)) for name, leaf in leaves.items()}
        known = {
            name: KnownNorms(jnp.full(W.shape[:-2], jnp.inf, W.dtype), _frobenius(0 * W))
            for name, W in weights.items()
        }
        if not is_followed:
            return known, {}
        return known, {name: no_top_vectors(W) for name, W in weights.items()}

    def init(params: PyTree) -> CappedNormsState:
        count = jnp.zeros((), jnp.int32)
        if is_placeholder(params):
            by_path: Any = jnp.zeros(())
            return CappedNormsState(count, by_path, by_path if is_followed else {})
        return CappedNormsState(
            count, *start(*select_trained(params, mask, axes, "cap_spectral_norm"))
        )

    def update(
        updates: PyTree, state: CappedNormsState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, CappedNormsState]:
        del extra
        check_params(params)
        leaves, resolved = select_trained(params, mask, axes, "cap_spectral_norm")
        shapes = jax.eval_shape(lambda leaves: start(leaves, resolved), leaves)
        for what, came, expected in zip(("known", "vectors"), state[1:], shapes, strict=True):
            check_fits(what, came, expected)
        most = bound(state.count) if callable(bound) else bound
        most = most.item() if isinstance(most, np.generic) else most

        def cap(name: str, argument: tuple[Any, ...]) -> tuple[jax.Array, KnownNorms, Any]:
            before, after, known, vectors = argument

            def as_matrices(leaf: jax.Array) -> jax.Array:
                return matrices(name, leaf, resolved)

            W = as_matrices(after)
            start = wide(as_matrices(before))
            reach = _reach(start, W, known, before.dtype)

            def clip() -> tuple[jax.Array, jax.Array, Any]:
                is_wide = W.shape[-2] < W.shape[-1]
                new, largest, followed = tall(W), reach, vectors
                if soft:
                    new, largest = softly_clipped(new, most)
                elif is_followed:
                    change = tall(W - start)
                    new, largest, followed = clipped_along_top(new, vectors, most, change)
                else:
                    new, largest = clipped(new, most)
                new = jnp.swapaxes(new, -1, -2) if is_wide else new
                return new, sharding.everywhere(largest, sharding.mesh_of(W)), followed

            # Not most < reach: NaN is looked at.
            is_near = anywhere(jnp.any(~(reach <= most)))
            W, largest, vectors = jax.lax.cond(is_near, clip, lambda: (W, reach, vectors))
            # To arrange is to permute: its transpose undoes it, whatever the axes are.
            (capped,) = jax.linear_transpose(as_matrices, after)(W)
            return capped, KnownNorms(largest, _frobenius(W)), vectors

        after = left_by_step(updates, leaves)
        arguments = {
            name: (leaves[name], leaf, state.known[name], state.vectors.get(name))
            for name, leaf in after.items()
        }
        done = in_one_body(cap, arguments, resolved)
        weights = {name: capped for name, (capped, _, _) in done.items()}
        known = {name: of_layer for name, (_, of_layer, _) in done.items()}
        vectors = {name: followed for name, (_, _, followed) in done.items() if is_followed}
        return leading_to(weights, updates, leaves), CappedNormsState(
            optax.safe_increment(state.count), known, vectors
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _reach(before: jax.Array, after: jax.Array, known: KnownNorms, dtype: Any) -> jax.Array:
    """What no singular value can be above after the step; inf of weights that are not known."""
    norm = _frobenius(before)
    # A singular value moves by the norm of the step at most, and by that of the rounding.
    rounding = float(jnp.finfo(dtype).eps) * norm
    # And by that of what has been done to it elsewhere, of which this is the least.
    drift = jnp.abs(norm - known.frobenius)
    reach = known.largest + _frobenius(after - before) + rounding + drift
    is_known = drift <= MAX_DRIFT * known.frobenius
    return jnp.where(is_known, reach, jnp.inf)


def _frobenius(W: jax.Array) -> jax.Array:
    norm = jnp.sqrt(jnp.sum(W * W, axis=(-2, -1)))
    return sharding.everywhere(norm, sharding.mesh_of(W))
