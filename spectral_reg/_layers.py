"""The matrices of a model's layers, and their spectra."""

from typing import Any

import jax
import jax.numpy as jnp

from ._eigenvalues import eigenvalues
from ._trees import Mask, PyTree, select_leaves

CONV_MATRICES = ("slices", "flatten")
CONV_SPECTRA = (*CONV_MATRICES, "pooled")


def _check_conv(conv: str, known: tuple[str, ...]) -> None:
    if conv not in known:
        hint = "; pooled spectra come from layer_spectra" if conv == "pooled" else ""
        raise ValueError(f"conv is {conv!r}; expected one of {', '.join(known)}{hint}")


def _last_axes_first(name: str, leaf: Any) -> Any:
    """A kernel with its matrix in the last two axes."""
    # Equinox and PyTorch name a kernel "weight" and keep its matrix in front: [out, in, *window].
    if name.rsplit("/", 1)[-1] == "weight" and leaf.ndim >= 4:
        return leaf.transpose(*range(2, leaf.ndim), 1, 0)
    return leaf


def layer_matrices(
    params: PyTree, *, mask: Mask = None, conv: str = "slices"
) -> dict[str, jax.Array]:
    r"""The weight matrices of a model, by path.

    Args:
        params: A pytree of parameters: Flax nnx state or module, Linen variables, Equinox module,
            nested dict; of JAX or NumPy arrays.
        mask: Which leaves; a tree of booleans (or a prefix), a function that makes one such as
            :func:`by_path`, or None for the leaves named kernel, weight or embedding that have two
            or more axes.
        conv: What a convolution kernel [\*window, in, out] of four or more axes becomes:
            ``"slices"``, one [in, out] matrix for each position of the window (the papers' feature
            maps); ``"flatten"``, one [window * in, out] matrix.

    Returns:
        Path to ``[..., rows, cols]``, in the order of the tree. Leading axes (window positions, or
        layers stacked by a scan) are a batch of matrices.

    Raises:
        ValueError: If nothing is selected, the mask does not fit, a selected leaf is no matrix, or
            ``conv`` is unknown.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"conv": {"kernel": jnp.ones((3, 3, 8, 16)), "bias": jnp.ones(16)}}
        >>> {path: W.shape for path, W in sr.layer_matrices(params).items()}
        {'conv/kernel': (3, 3, 8, 16)}
        >>> sr.layer_matrices(params, conv="flatten")["conv/kernel"].shape
        (72, 16)
    """
    _check_conv(conv, CONV_MATRICES)
    matrices = {}
    for name, leaf in select_leaves(params, mask).items():
        if getattr(leaf, "ndim", 0) < 2:
            raise ValueError(
                f"the mask selects {name!r} of shape {getattr(leaf, 'shape', ())}; expected "
                "matrices [..., rows, cols]: leave biases and scales out of the mask"
            )
        matrix = _last_axes_first(name, leaf)
        if conv == "flatten" and matrix.ndim >= 4:
            matrix = matrix.reshape(-1, matrix.shape[-1])
        matrices[name] = matrix
    return matrices


def layer_spectra(
    params: PyTree, *, mask: Mask = None, conv: str = "slices"
) -> dict[str, jax.Array]:
    """The eigenvalues of a model's weight matrices, by path.

    Args:
        params: As for :func:`layer_matrices`.
        mask: As for :func:`layer_matrices`.
        conv: As for :func:`layer_matrices`, or ``"pooled"``: the eigenvalues of a convolution's
            slices as one spectrum.

    Returns:
        Path to ``[..., M]``, descending, not divided by N.

    Raises:
        ValueError: As for :func:`layer_matrices`.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {"conv": {"kernel": jnp.ones((3, 3, 8, 16))}}
        >>> {path: l.shape for path, l in sr.layer_spectra(params, conv="pooled").items()}
        {'conv/kernel': (72,)}

    Cost: that of :func:`eigenvalues` for each layer.
    """
    _check_conv(conv, CONV_SPECTRA)
    matrices = layer_matrices(params, mask=mask, conv="slices" if conv == "pooled" else conv)
    spectra = {name: eigenvalues(W) for name, W in matrices.items()}
    if conv == "pooled":
        return {
            name: pooled(spectrum) if spectrum.ndim >= 3 else spectrum
            for name, spectrum in spectra.items()
        }
    return spectra


def pooled(spectra: jax.Array) -> jax.Array:
    """The eigenvalues of several matrices as one spectrum, descending."""
    return jnp.sort(spectra.reshape(-1), descending=True)
