"""The spectra of a whole model, measured layer by layer."""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import spectral_reg as sr
from spectral_reg._layers import Layer, read_layers

from ._checkpoints import Tensor, open_checkpoint
from ._measure import measure_spectrum
from ._report import Report, make_report

CONV = ("slices", "pooled", "flatten")


def evaluate(
    model_or_path: Any,
    *,
    conv: str = "slices",
    layers: Sequence[str] | None = None,
    num_bootstrap: int = 0,
    progress: bool = True,
) -> Report:
    """Measures the spectrum of every weight matrix of a model.

    Args:
        model_or_path: A pytree of parameters (Flax nnx module or state, Linen variables, Equinox
            module, nested dict of arrays), or the path of a PyTorch checkpoint (``.pt .pth .th
            .bin .tar``, read with ``weights_only=True``) or of a ``.safetensors`` file.
        conv: What a convolution becomes: ``"slices"``, a row for each position of its window (the
            papers' feature maps); ``"pooled"``, one row for all their eigenvalues; ``"flatten"``,
            one row for the [window * in, out] matrix.
        layers: Shell patterns of the paths to measure, such as ``"layer3/*"``; None measures all.
        num_bootstrap: Bootstraps for the p-value of each power law; 0 leaves it out.
        progress: Show a progress bar with an estimate on standard error.

    Returns:
        A :class:`Report`. Every tensor is in ``layers`` or, with the reason, in ``skipped``.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the file cannot be read, ``conv`` is unknown, or nothing is to be measured.
        ImportError: If the file is a pickle and torch is not installed.

    Example:
        >>> import numpy as np, fitting
        >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(400, 100))}}
        >>> report = fitting.evaluate(params, progress=False)
        >>> report.layers.loc[0, "phase"]
        'RANDOM_LIKE'

    Cost: one singular value decomposition in float64 a matrix, and the fits.
    A layer that cannot be fitted (all zero, NaN, constant, under 10 eigenvalues) keeps its row with
    ``valid=False`` and a reason.

    References:
        Martin and Mahoney, Universality and capacity metrics, Methodology.
    """
    if conv not in CONV:
        raise ValueError(f"conv is {conv!r}; expected one of {', '.join(CONV)}")
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; expected 0 or more")
    tensors = open_checkpoint(model_or_path)
    slices_or_flat = "slices" if conv == "pooled" else conv
    params = {name: tensor.read() for name, tensor in tensors.items() if not tensor.reason}
    layers_read = read_layers(params, mask=None, conv=slices_or_flat, axes=None)
    reasons = {name: _reason_to_skip(name, tensor, layers) for name, tensor in tensors.items()}
    chosen = {name: layer for name, layer in layers_read.items() if not reasons[name]}
    if not chosen:
        raise ValueError(f"there is no weight matrix to measure; the tensors and why: {reasons}")

    rows, spectra = [], {}
    with tqdm(chosen.items(), desc="layers", unit="layer", disable=not progress) as bar:
        for name, layer in bar:
            bar.set_postfix_str(name, refresh=False)
            shape = layer.weight.shape[-2:]
            place = {"name": name, "kind": _kind(name, layer), "rows": shape[0], "cols": shape[1]}
            pooled = conv == "pooled" and layer.is_convolution
            for index, eigenvalues in _spectra(layer, pooled=pooled):
                row = measure_spectrum(eigenvalues, shape, num_bootstrap=num_bootstrap)
                rows.append(place | {"index": index} | row)
                spectra[name, index] = eigenvalues
    skipped = [
        {"name": name, "shape": str(tensors[name].shape), "reason": reason}
        for name, reason in reasons.items()
        if reason
    ]
    return make_report(rows, skipped, spectra, conv=conv)


def _reason_to_skip(name: str, tensor: Tensor, layers: Sequence[str] | None) -> str:
    if tensor.reason:
        return tensor.reason
    if tensor.ndim < 2:
        return "a scalar or a vector"
    if not sr.is_layer_matrix(name, tensor):
        return "its name is not that of a weight matrix"
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        return f"of type {tensor.dtype}"
    if 0 in tensor.shape:
        return "empty"
    if layers is not None and not any(fnmatch.fnmatchcase(name, p) for p in layers):
        return "not among the layers asked for"
    return ""


def _kind(name: str, layer: Layer) -> str:
    if layer.is_convolution:
        return "conv"
    if "embedding" in name.rsplit("/", 1)[-1]:
        return "embedding"
    return "stack" if layer.num_batch else "dense"


def _spectra(layer: Layer, *, pooled: bool) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Index in the batch and eigenvalues, NaN where a matrix has entries that are not finite."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is one like any other
        W: NDArray[np.float64] = np.asarray(layer.weight).astype(np.float64)
    finite = np.isfinite(W.sum(axis=(-2, -1), keepdims=True))
    # LAPACK raises on NaN, for the whole batch.
    spectra = np.linalg.svd(np.where(finite, W, 0.0), compute_uv=False) ** 2
    spectra = np.where(finite[..., 0], spectra, np.nan)
    if pooled:
        spectra = spectra.reshape(*spectra.shape[: layer.num_batch], -1)
    for index in np.ndindex(spectra.shape[:-1]):
        yield ",".join(map(str, index)), np.sort(spectra[index])[::-1]
