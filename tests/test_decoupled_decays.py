"""Penalties between the optimizer and the learning rate: what each singular value loses a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrices import with_singular_values

import spectral_reg as sr

RATE, DECAY = 0.1, 0.5
SIZES = np.r_[3.0, 2.5, np.linspace(2, 0.2, 14)]


def half_square(squared_norm, lambda_max):
    return lambda_max / 2


def only_the_top(loss):
    return lambda sizes: np.r_[sizes[0] - loss(sizes[0]), sizes[1:]]


# The metric, its options and what a step of RATE * DECAY makes of the singular values.
DECAYS = {
    "spectral norm": (sr.spectral_norm, {"tracking": "warm"}, only_the_top(lambda s: RATE * DECAY)),
    "its half square": (
        sr.norm_metric(half_square),
        {"tracking": "warm"},
        only_the_top(lambda s: RATE * DECAY * s),
    ),
    "nuclear norm": (sr.nuclear_norm, {}, lambda sizes: sizes - RATE * DECAY),
    "nuclear norm, by products": (
        sr.products_only(sr.nuclear_norm),
        {},
        lambda sizes: sizes - RATE * DECAY,
    ),
    "orthogonality": (
        sr.products_only(sr.orthogonality),
        {},
        lambda s: s - RATE * DECAY * 4 * s * (s**2 - np.mean(s**2)),
    ),
}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.usefixtures("promoted_types")
def test_a_step_is_the_closed_form_whatever_the_gradient_was(decay):
    metric, options, closed_form = DECAYS[decay]
    rng = np.random.default_rng(0)
    W = with_singular_values(rng, (24, 16), SIZES)
    params = {"fc": {"kernel": jnp.asarray(W, jnp.float32)}}
    gradient = {"fc": {"kernel": jnp.asarray(rng.standard_normal(W.shape), jnp.float32)}}
    chain = optax.chain(
        optax.scale_by_adam(),
        sr.add_spectral_penalty(metric, DECAY, **options),
        optax.scale_by_learning_rate(RATE),
    )
    updates, _ = chain.update(gradient, chain.init(params), params)
    alone = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(RATE))
    of_loss, _ = alone.update(gradient, alone.init(params), params)
    U, sizes, V = np.linalg.svd(W, full_matrices=False)
    expected = U * closed_form(sizes) @ V - W
    decayed = jax.tree.map(jnp.subtract, updates, of_loss)["fc"]["kernel"]
    # The polynomials are within 0.002 of the polar factor.
    tolerance = 0.002 * RATE * DECAY if "products" in decay else 1e-5
    np.testing.assert_allclose(decayed, expected, atol=tolerance + 1e-6)
