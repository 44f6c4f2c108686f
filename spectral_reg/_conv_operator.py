"""Exact spectra of convolutions as linear maps of whole inputs."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._blocks import HIGHEST
from ._eigenvalues import as_matrices, spectrum
from ._hyperparameters import Kept, StaysItself


# No NamedTuple, which jax.jit would refuse as a function.
@dataclasses.dataclass(frozen=True)
class ConvOperator(StaysItself):
    """A kernel's eigenvalues as a convolution of inputs of one size; see :func:`conv_operator`.

    Attributes:
        size: The size of the input along each axis of the window.
    """

    size: tuple[int, ...]

    def __call__(self, kernel: Any) -> Any:
        """The eigenvalues ``[..., prod(size) * M]`` of kernels ``[..., *window, in, out]``."""
        if isinstance(kernel, Kept):
            return kernel
        kernel = as_matrices(kernel, "kernel")
        num_window = len(self.size)
        if kernel.ndim < num_window + 2:
            raise ValueError(
                f"kernel has shape {kernel.shape}; expected [..., *window, in, out] with "
                f"{num_window} axes of the window for conv_operator{self.size}"
            )
        transfer = _transfer_matrices(kernel, self.size)
        values = spectrum(transfer)
        # A real kernel has conjugate matrices at opposite frequencies: one of the two is enough.
        twice = values[..., 1 : (self.size[-1] + 1) // 2, :]
        batch = kernel.shape[: -num_window - 2]
        parts = [part.reshape(*batch, -1) for part in (values, twice)]
        return jnp.sort(jnp.concatenate(parts, axis=-1), axis=-1, descending=True)


def conv_operator(*size: int) -> ConvOperator:
    r"""The exact spectrum of a circular convolution, for inputs of a given size.

    .. math:: \hat K(f) = \sum_x K(x)\, e^{-2 \pi i f \cdot x / n}, \quad
        \{\lambda\} = \bigcup_f \{\lambda_j(\hat K(f)^* \hat K(f))\}

    A convolution maps an input of height * width * in numbers to height * width * out; with
    circular padding and stride 1 the Fourier transform makes that matrix block diagonal, with one
    [in, out] block for each frequency. (With zero padding, the usual one, the spectrum is close to
    this for inputs much larger than the window.) A kernel larger than the input wraps around it.

    Use it as ``conv=sr.conv_operator(32, 32)`` in :func:`layer_spectra`, :func:`spectral_penalty`
    and :func:`add_spectral_penalty`; select with ``mask`` the layers that see inputs of this size.
    Weights without a window are read as the matrices that they are.

    Args:
        *size: Height and width of the input; one number for each axis of the window.

    Returns:
        A function of kernels ``[..., *window, in, out]``, real, to their eigenvalues
        ``[..., prod(size) * min(in, out)]``, descending, differentiable.

    Raises:
        ValueError: If a size is not a whole number of at least 1.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> blur = jnp.full((2, 2, 1, 1), 0.5)
        >>> print(sr.conv_operator(2, 2)(blur).round(6))
        [4. 0. 0. 0.]

    Cost: one [in, out] complex eigendecomposition for half of the frequencies, some
    prod(size) / 2. Zero kernel: zeros, gradient 0. A grouped kernel needs its ``groups`` in
    :class:`MatrixAxes`; without, its blocks are taken for one convolution of in / groups channels.
    On a mesh of devices of Explicit axes a kernel may lie whole on each of them, not in parts.

    References:
        Sedghi, Gupta and Long, The singular values of convolutional layers, 2019, Theorem 6.
    """
    if not size or not all(isinstance(n, int) and n >= 1 for n in size):
        raise ValueError(f"size is {size}; expected whole numbers of at least 1: height, width")
    return ConvOperator(size)


def _transfer_matrices(kernel: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Fourier transforms ``[..., *frequencies, in, out]``, the last axis to its middle alone."""
    window = kernel.shape[-len(size) - 2 : -2]
    # A window has few taps, so the transform is a product, no slower than a padded FFT; and a
    # kernel larger than the input wraps around by itself. Integers lose whole turns exactly.
    frequencies = np.indices((*size[:-1], size[-1] // 2 + 1)).reshape(len(size), -1, 1)
    taps = np.indices(window).reshape(len(size), 1, -1)
    periods = np.reshape(size, (-1, 1, 1))
    angles = 2 * np.pi * np.sum(frequencies * taps % periods / periods, axis=0)
    shape = (*size[:-1], size[-1] // 2 + 1, *kernel.shape[-2:])
    batch = kernel.shape[: -len(size) - 2]
    taps_first = kernel.reshape(*batch, math.prod(window), -1)

    def transform(waves: np.ndarray) -> jax.Array:
        product = jnp.matmul(jnp.asarray(waves, kernel.dtype), taps_first, precision=HIGHEST)
        return product.reshape(*batch, *shape)

    # Complex, not real blocks of twice the size, in which each value would come twice: value and
    # gradient of a 3 x 3 x 32 x 64 kernel at 16 x 16 take 24 ms instead of 39 on two CPU cores.
    return jax.lax.complex(transform(np.cos(angles)), transform(-np.sin(angles)))
