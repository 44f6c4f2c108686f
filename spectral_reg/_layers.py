"""The matrices of a model's layers, and their spectra."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ._axes import arrange
from ._axes_argument import Axes
from ._conv_operator import ConvOperator
from ._eigenvalues import eigenvalues
from ._reading import select_layers
from ._reparametrized import Reparametrized
from ._trees import Mask, PyTree

ConvMatrices = Literal["slices", "flatten"]
Conv = ConvMatrices | Literal["pooled"] | ConvOperator

CONV_MATRICES: tuple[ConvMatrices, ...] = get_args(ConvMatrices)
CONV_SPECTRA = (*CONV_MATRICES, "pooled")


class Layer(NamedTuple):
    """A weight as ``[*batch, *parts, rows, cols]``.

    Attributes:
        weight: The matrices. The parts are the window and the groups of a convolution.
        num_batch: Number of axes of the batch.
        num_window: Number of axes of the window among the parts; 0 where it is part of the rows.
        is_convolution: Whether the weight has a window at all.
    """

    weight: Any
    num_batch: int
    num_window: int
    is_convolution: bool


def layer_matrices(
    params: PyTree, *, mask: Mask = None, conv: ConvMatrices = "slices", axes: Axes = None
) -> dict[str, jax.Array]:
    r"""The weight matrices of a model, by path.

    Args:
        params: A pytree of parameters: Flax nnx state or module, Linen variables, Equinox module,
            Haiku or other nested dict; of JAX or NumPy arrays.
        mask: Which leaves; a tree of booleans (or a prefix, or a module with booleans for leaves),
            which selects what it says; a function that makes one; :func:`by_path`, which selects
            the weight matrices among what it fits; or None for those that
            :func:`is_layer_matrix` takes. :func:`explain_layers` lists both kinds.
        conv: What a convolution kernel [\*window, in, out] becomes: ``"slices"``, one [in, out]
            matrix for each position of the window (the papers' feature maps); ``"flatten"``, one
            [window * in, out] matrix.
        axes: Which axes of a weight make its matrix, where the rules that :class:`MatrixAxes`
            lists do not tell: a dict of path patterns, as in :func:`by_path`, of which the first
            that fits counts; a tree of the structure of ``params`` or a prefix of it; or a function
            from ``params`` to one. Its values are :class:`MatrixAxes`; :class:`Stacked`;
            ``optax.contrib.MuonDimensionNumbers``; the logical names of the axes, as a
            ``PartitionSpec``, a tuple or a box of Flax, of which those called layers, blocks,
            stages or repeats are stacked; or None for what is left out.

    Returns:
        Path to ``[..., rows, cols]``, in the order of the tree. Leading axes (layers stacked by a
        scan, then parts that stand side by side, groups and window positions) are a batch of
        matrices. Under a weight or spectral normalization, the weight that multiplies.

    Raises:
        ValueError: If nothing is selected, the mask does not fit, a selected leaf is no matrix or
            part of one that is not known, two leaves have one path, ``conv`` is unknown, a pattern
            of ``axes`` matches nothing, its axes do not fit, or they are in doubt: where the shapes
            around a weight say that its layers are stacked on the second axis.
        TypeError: If there is anything else in ``axes`` or the mask.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"conv": {"kernel": jnp.ones((3, 3, 8, 16)), "bias": jnp.ones(16)}}
        >>> {path: W.shape for path, W in sr.layer_matrices(params).items()}
        {'conv/kernel': (3, 3, 8, 16)}
        >>> sr.layer_matrices(params, conv="flatten")["conv/kernel"].shape
        (72, 16)

    Cost: none but transpositions; arrays of NumPy stay such, in their own type.
    """
    if conv not in CONV_MATRICES:
        raise ValueError(
            f"conv is {conv!r}; expected one of {', '.join(CONV_MATRICES)}; pooled "
            "spectra and those of conv_operator come from layer_spectra"
        )
    layers = read_layers(params, mask=mask, conv=conv, axes=axes)
    return {name: layer.weight for name, layer in layers.items()}


def layer_spectra(
    params: PyTree, *, mask: Mask = None, conv: Conv = "slices", axes: Axes = None
) -> dict[str, jax.Array]:
    """The eigenvalues of a model's weight matrices, by path.

    Args:
        params: As for :func:`layer_matrices`.
        mask: As for :func:`layer_matrices`.
        conv: As for :func:`layer_matrices`; or ``"pooled"``, the eigenvalues of a convolution's
            slices and groups as one spectrum; or :func:`conv_operator`, those of the convolution
            as a map of whole inputs.
        axes: As for :func:`layer_matrices`.

    Returns:
        Path to ``[..., M]``, descending, not divided by N.

    Raises:
        ValueError: As for :func:`layer_matrices`, or if :func:`conv_operator` has not as many
            sizes as a window has axes.
        TypeError: If a selected leaf is not of a real floating-point type, or as for
            :func:`layer_matrices`.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"conv": {"kernel": jnp.ones((3, 3, 8, 16))}}
        >>> {path: l.shape for path, l in sr.layer_spectra(params, conv="pooled").items()}
        {'conv/kernel': (72,)}

    Cost: that of :func:`eigenvalues` or :func:`conv_operator` for each layer.
    """
    layers = read_layers(params, mask=mask, conv=conv, axes=axes)
    return {name: _spectrum(name, layer, conv) for name, layer in layers.items()}


def check_conv(conv: Any) -> None:
    """Refuses what names no way to read a convolution."""
    if isinstance(conv, ConvOperator) or (isinstance(conv, str) and conv in CONV_SPECTRA):
        return
    raise ValueError(
        f"conv is {conv!r}; expected one of {', '.join(CONV_SPECTRA)} or "
        "conv_operator(height, width)"
    )


def read_layers(params: PyTree, *, mask: Mask, conv: Conv, axes: Axes) -> dict[str, Layer]:
    """The selected weights, as the matrices that ``conv`` makes of them."""
    check_conv(conv)
    leaves, resolved = select_layers(params, mask, axes)
    layers = {}
    for name, leaf in leaves.items():
        made = leaf.weight if isinstance(leaf, Reparametrized) else leaf
        weight, num_batch, num_window = arrange(name, made, resolved[name])
        layers[name] = Layer(weight, num_batch, num_window, num_window > 0)
    if isinstance(conv, ConvOperator):
        return layers
    return {
        name: _flatten(layer) if conv == "flatten" or layer.weight.shape[-2] == 1 else layer
        for name, layer in layers.items()
    }


def pool(values: jax.Array, num_batch: int) -> jax.Array:
    """Values ``[*batch, ...]`` with all that follows the batch as one axis, descending."""
    pooled = values.reshape(*values.shape[:num_batch], -1)
    return jnp.sort(pooled, axis=-1, descending=True)


def _flatten(layer: Layer) -> Layer:
    """The window and the rows as the rows."""
    weight = layer.weight
    lead = weight.shape[: weight.ndim - 2 - layer.num_window]
    return layer._replace(weight=weight.reshape(*lead, -1, weight.shape[-1]), num_window=0)


def _spectrum(name: str, layer: Layer, conv: Conv) -> jax.Array:
    weight, num_batch, num_window, _ = layer
    if isinstance(conv, ConvOperator) and num_window:
        if num_window != len(conv.size):
            raise ValueError(
                f"conv is conv_operator{conv.size} and the window of {name!r} has {num_window} "
                f"axes; expected {len(conv.size)}; leave it out of the mask, or give its window in "
                "axes"
            )
        spectra = conv(weight)
    else:
        spectra = eigenvalues(weight)
    if conv in CONV_MATRICES or spectra.ndim == num_batch + 1:
        return spectra
    return pool(spectra, num_batch)
