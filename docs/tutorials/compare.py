"""Compares two checkpoints, made on the spot: early and late in the same training.

python docs/tutorials/compare.py
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import fitting

EPOCHS = 3 if "--smoke" in sys.argv else 100

digits = load_digits()
images = jnp.asarray(digits.data / 16, jnp.float32)
labels = jnp.asarray(digits.target)

# A network without a framework: a dict of kernels. Any pytree and any checkpoint will do.
sizes = {"first": (64, 400), "hidden": (400, 200), "last": (200, 10)}
rng = np.random.default_rng(0)
params = {
    name: {"kernel": jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, jnp.float32)}
    for name, shape in sizes.items()
}


def loss_of(params, x, y):
    """Mean cross-entropy."""
    x = jax.nn.relu(x @ params["first"]["kernel"])
    x = jax.nn.relu(x @ params["hidden"]["kernel"])
    logits = x @ params["last"]["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


optimizer = optax.sgd(0.1, momentum=0.9)


@jax.jit
def train_step(params, state, x, y):
    """An ordinary step."""
    updates, state = optimizer.update(jax.grad(loss_of)(params, x, y), state)
    return optax.apply_updates(params, updates), state


def save(params, path):
    """Writes a checkpoint: here a NumPy archive, whose names are the paths of the weights."""
    np.savez(path, **{f"{name}/kernel": leaf["kernel"] for name, leaf in params.items()})


folder = Path(tempfile.mkdtemp())
state = optimizer.init(params)
for epoch in range(1, EPOCHS + 1):
    for batch in np.random.default_rng(epoch).permutation(1536).reshape(-1, 16):
        params, state = train_step(params, state, images[batch], labels[batch])
    if epoch == 1:
        save(params, folder / "early.npz")
save(params, folder / "late.npz")

# In the shell: spectral-reg compare early.npz late.npz --plot figures
reports = {
    name: fitting.evaluate(folder / f"{name}.npz", progress=False) for name in ("early", "late")
}
for name, report in reports.items():
    print(f"\n{name}.npz")
    columns = ["name", "stable_rank", "lambda_max", "lambda_plus", "alpha", "sigma", "phase"]
    print(report.layers[columns].round(2).to_string(index=False))

comparison = fitting.compare(reports)
print("\nThe models as wholes")
print(comparison.values.T.loc[["mean_log_spectral_norm", "mean_stable_rank"]].round(2).to_string())
print("\nHow far the spectrum of each layer has moved, relative to its norm")
changes = comparison.layers["spectrum_change", "late"].droplevel("index")
print(changes.astype(float).round(3).to_string())
reports["late"].to_html(folder / "late.html", title="late.npz")
print("\nThe page with every spectrum: late.html")
