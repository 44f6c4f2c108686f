"""Weights as a checkpoint holds them, and the spectra that their layouts give."""

from functools import partial

import numpy as np
from draws import RNG

from fitting._checkpoints import Tensor
from fitting._evaluation._experts import place_experts
from fitting._evaluation._layouts import plan
from fitting._evaluation._unit import spectra


def normal(*shape):
    return RNG.standard_normal(shape)


def tensor(array, **fields):
    return Tensor(array.shape, str(array.dtype), partial(np.asarray, array), **fields)


def measured(weights, **options):
    """Kinds and eigenvalues by name and index, and the reasons of what is skipped."""
    tensors = {n: w if isinstance(w, Tensor) else tensor(w) for n, w in weights.items()}
    units, skipped = plan(tensors, **options)
    kinds = {unit.name: unit.kind for unit in units}
    found = {(unit.name, s.index): s for unit in units for s in spectra(unit)}
    listed = {name for name, place in place_experts(tensors).items() if place.name in kinds}
    assert set(tensors) <= set(kinds) | set(skipped) | listed, "a tensor is not accounted for"
    return kinds, found, {name: reason for name, (_, reason) in skipped.items()}


def assert_is_spectrum_of(spectrum, matrix):
    expected = np.linalg.svd(matrix, compute_uv=False) ** 2
    np.testing.assert_allclose(spectrum.eigenvalues, expected, rtol=1e-9, atol=1e-12)
    assert sorted(spectrum.shape) == sorted(matrix.shape)
