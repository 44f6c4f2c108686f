"""Asks a layer of a Flax network for a power law, and lets the exact fit say what came of it.

python docs/tutorials/penalty.py
"""

import sys

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import fitting
import spectral_reg as sr

EPOCHS = 2 if "--smoke" in sys.argv else 20

digits = load_digits()
images = jnp.asarray(digits.data / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(1536), slice(1536, None)


class Network(nnx.Module):
    """Three dense layers; the hidden one is the one to steer."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, 400, rngs=rngs)
        self.hidden = nnx.Linear(400, 200, rngs=rngs)
        self.last = nnx.Linear(200, 10, rngs=rngs)

    def __call__(self, x):
        """Gives logits [n, 10] for images [n, 64]."""
        return self.last(nnx.relu(self.hidden(nnx.relu(self.first(x)))))


def loss_of(model, x, y):
    """Mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    """An ordinary step: nothing in it knows of the penalty."""
    loss, gradient = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, gradient)
    return loss


# How far the tail of the layer is from a power law of exponent 2.5, as a loss.
distance = sr.power_law_distance(2.5)
penalty = sr.add_spectral_penalty(
    distance, 20.0, mask=sr.by_path("hidden/kernel"), tracking="warm", every=5
)


def run(title, *transformations):
    """Trains one network and prints what its hidden layer does."""
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.chain(*transformations), wrt=nnx.Param)
    print(f"\n{title}\n  epoch    loss  test accuracy  distance  alpha of the best power law")
    for epoch in range(EPOCHS + 1):
        if epoch:
            order = np.random.default_rng(epoch).permutation(1536).reshape(-1, 64)
            losses = [train_step(model, optimizer, images[b], labels[b]) for b in order]
        if epoch % max(EPOCHS // 5, 1) == 0:
            kernel = model.hidden.kernel[...]
            accuracy = jnp.mean(jnp.argmax(model(images[test]), -1) == labels[test])
            fit = fitting.fit_power_law(sr.eigenvalues(kernel))
            loss = f"{np.mean(losses):.4f}" if epoch else ""
            print(
                f"  {epoch:5} {loss:>7} {accuracy:14.3f} {distance(kernel):9.5f}"
                f"  {fit.alpha:5.2f} +- {fit.sigma:.2f} over {fit.num_tail} eigenvalues"
            )
    return fitting.classify_phase(np.asarray(kernel))


sgd = optax.sgd(0.02, momentum=0.9)
plain = run("Without a penalty", sgd)
steered = run("Asked for a power law of alpha = 2.5", penalty, sgd)
print(f"\nPhase of the hidden layer: {plain.phase.name} without, {steered.phase.name} with")
for reason in steered.reasons:
    print(f"  {reason}")
