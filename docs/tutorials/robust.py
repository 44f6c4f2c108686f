"""Trains a network twice, and asks how large a change of an image it takes to mislead it.

    python docs/tutorials/robust.py

Scikit-learn's digits, half a minute on two cores. It needs the repository: the images, the
attack and the proof are those of `examples/claims/`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from examples.claims import images, robustness

num_steps = 20 if "--smoke" in sys.argv else 1000
ATTACKED, PROVED = 1.5, 0.5

data = images.read("digits", None, train=1000, held_out=250)
pixels, labels = images.scaled(data["test_images"]), data["test_labels"]
# A bound of 1 on every layer: the network then makes no change of an image longer.
cap = sr.hinge(sr.spectral_norm, above=1.0)
optimizers = {
    "Adam": optax.adam(3e-3),
    "Adam, capped": optax.chain(
        sr.add_spectral_penalty(cap, 0.1, tracking="warm"), optax.adam(3e-3)
    ),
}


def train(optimizer):
    """Parameters after training, from the same weights on the same batches."""
    params = images.dense_layers(jax.random.key(0), (pixels.shape[1], 128, 128, 10))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, rows):
        batch = images.scaled(data["images"][rows]), data["labels"][rows]
        gradient = jax.grad(images.cross_entropy)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        params, state = step(params, state, rng.integers(len(data["labels"]), size=64))
    return params


def share(which):
    """Mean of an array of booleans, as text."""
    return f"{jnp.mean(which.astype(jnp.float32)):.3f}"


print("                largest singular values   right  attacked  proved")
for name, optimizer in optimizers.items():
    params = train(optimizer)
    norms = " ".join(f"{sr.spectral_norm(layer['kernel']):5.2f}" for layer in params.values())
    changed = robustness.attacked(params, pixels, labels, radius=ATTACKED)
    right, resists = (
        jnp.argmax(images.logits_of(params, seen), axis=-1) == labels for seen in (pixels, changed)
    )
    proved = robustness.proved(params, pixels, labels, radius=PROVED)
    print(f"{name:15} {norms:>23} {share(right):>7} {share(resists):>9} {share(proved):>7}")
print(f"attacked: right after any change of {ATTACKED} that the attack finds")
print(f"proved: right after every change of {PROVED}")
