"""Test matrices built from a chosen spectrum."""

import numpy as np


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
