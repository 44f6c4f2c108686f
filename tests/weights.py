"""A weight of any shape, and the matrices that a model's weights make."""

import numpy as np
from draws import RNG

import spectral_reg as sr


def weight(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def matrix(name, array, **options):
    return sr.layer_matrices({name: array}, **options)[name]


def matrix_of(params, name, **options):
    return sr.layer_matrices(params, **options)[name]
