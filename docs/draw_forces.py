"""What lowering a function of the eigenvalues asks of each of them, in bars."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from fitting.palette import DARK, LAW
from tests.planted_spectra import Array


def force(function: Callable[[jax.Array], jax.Array], spectrum: Array) -> Array:
    """Minus the gradient by the logarithms of the eigenvalues: by which factor each is to move."""
    values = jnp.asarray(spectrum, jnp.float32)
    return -np.asarray(jax.grad(function)(values) * values)


def bars(axes: Axes, heights: Array) -> None:
    """A bar for each rank, more of its eigenvalue above zero, less below."""
    ranks = np.arange(1, heights.size + 1)
    for chosen, color in ((heights > 0, DARK["color"]), (heights < 0, LAW)):
        axes.vlines(ranks[chosen], 0, heights[chosen], color=color, linewidth=1)
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set(xscale="log", xlim=(0.8, ranks[-1] * 1.2))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
