"""Spectra of every kind that a fit meets, by name."""

import numpy as np
from planted_spectra import gaussian_spectrum


def pareto(generator, alpha, size, xmin=1.0):
    return xmin * (1 - generator.random(size)) ** (-1 / (alpha - 1))


def spectrum(matrix):
    return np.linalg.svd(matrix, compute_uv=False) ** 2


KINDS = {
    "pareto": lambda g: pareto(g, g.uniform(1.3, 6), 200),
    "mixture": lambda g: np.concatenate([g.uniform(0.1, 2, 60), pareto(g, 2.5, 140, xmin=2)]),
    "lognormal": lambda g: np.exp(g.normal(size=150)),
    "gaussian": lambda g: gaussian_spectrum((200, 100), g),
    "gaussian square": lambda g: gaussian_spectrum((90, 90), g),
    # near 1, since powerlaw drops a candidate whose xmin^(alpha - 1) overflows
    "gaussian tall": lambda g: gaussian_spectrum((4000, 40), g) / 4000,
    "student": lambda g: spectrum(g.standard_t(3, size=(120, 80))),
    "cauchy": lambda g: spectrum(g.standard_cauchy(size=(100, 70))),
    "trained": lambda g: spectrum(
        g.normal(size=(160, 80)) + g.normal(size=(160, 6)) @ g.normal(size=(6, 80))
    ),
    "ties": lambda g: np.round(pareto(g, 2.5, 200), 1),
    "zeros": lambda g: np.concatenate([np.zeros(40), pareto(g, 2.2, 120)]),
    "rank deficient": lambda g: spectrum(g.normal(size=(100, 30)) @ g.normal(size=(30, 80))),
    "tiny": lambda g: 1e-14 * pareto(g, 2.5, 120),
    "huge": lambda g: 1e14 * pareto(g, 3.0, 120),
    "few": lambda g: pareto(g, 2.5, 12),
    "orthogonal but for spikes": lambda g: np.concatenate([np.ones(60), pareto(g, 2.5, 40)]),
    "flat": lambda g: g.uniform(1, 2, 100),
    "heavy": lambda g: pareto(g, 1.2, 100),
}
