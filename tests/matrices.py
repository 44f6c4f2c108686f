"""Test matrices built from a chosen spectrum, and any spectrum at all."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


def with_singular_values(rng, shape, singular_values):
    rows, cols = shape
    left = np.linalg.qr(rng.standard_normal((rows, len(singular_values))))[0]
    right = np.linalg.qr(rng.standard_normal((cols, len(singular_values))))[0]
    return (left * singular_values) @ right.T


DEGENERATE = {
    "zero": np.zeros((6, 4)),
    "rank one": np.outer(np.arange(1, 7), np.arange(1, 5)).astype(float),
    "identity": np.eye(6, 4),
    "orthogonal": np.linalg.qr(np.random.default_rng(0).standard_normal((6, 4)))[0],
}


@st.composite
def spectra(draw, max_size=60):
    """Anything that a spectrum can be: any range, ties, zeros, subnormals, one value."""
    elements = draw(
        st.sampled_from(
            [
                st.floats(0, 1e308),
                st.floats(0, 10),
                st.floats(1, 1.000001),
                st.sampled_from([0.0, 1.0, 2.0, 5e-324, 1e308]),
                st.integers(0, 20).map(float),
            ]
        )
    )
    return draw(arrays(np.float64, st.integers(1, max_size), elements=elements))
