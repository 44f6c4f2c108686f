"""What is measured of a network between epochs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import fitting

EVALUATION_BATCH = 256

# The columns of a run's `localization_*` arrays: fitting.LocalizationMeasures twice.
LOCALIZATION = (
    "num_spikes",
    *(
        f"{part}_{measure}"
        for part in ("bulk", "spikes")
        for measure in ("localization_ratio", "participation_ratio", "entropy")
    ),
)


@functools.partial(jax.jit, static_argnums=0)
def fresh_statistics(
    graph: nnx.GraphDef, params: dict, batch_stats: dict, images: jax.Array
) -> dict:
    """Measures batch norm's statistics anew, on the images given.

    The running averages forget 1 % of their past a step. After the 36 steps that a large batch gets
    in a short run they are mostly their own starting values (seen on the digits at b = 256: 36 % of
    the test images right, and 92 % with fresh statistics), and a large batch would seem to
    generalize badly for that alone. Over the papers' 100 epochs it makes no difference.
    """
    model = nnx.merge(graph, nnx.State(params), nnx.State(batch_stats))
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.momentum = 0.0
        if isinstance(module, nnx.Dropout):
            module.deterministic = True
            module.rate = 0.0
    model(images, train=True)
    return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


@functools.partial(jax.jit, static_argnums=0)
def _predict(graph: nnx.GraphDef, params: dict, batch_stats: dict, images: jax.Array) -> jax.Array:
    model = nnx.merge(graph, nnx.State(params), nnx.State(batch_stats))
    return jnp.argmax(model(images, train=False), axis=-1)


def accuracy(
    graph: nnx.GraphDef, params: dict, batch_stats: dict, images: np.ndarray, labels: np.ndarray
) -> float:
    """Gives the share of the images that the network answers right."""
    correct = 0
    for start in range(0, len(images), EVALUATION_BATCH):
        batch = images[start : start + EVALUATION_BATCH]
        # A last batch of another size would be compiled anew.
        padding = [(0, EVALUATION_BATCH - len(batch)), (0, 0), (0, 0), (0, 0)]
        answers = _predict(graph, params, batch_stats, np.pad(batch, padding))
        expected = labels[start : start + EVALUATION_BATCH]
        correct += int((np.asarray(answers)[: len(batch)] == expected).sum())
    return correct / len(images)


def eigenvalues(weights: np.ndarray) -> np.ndarray:
    """Gives the eigenvalues of W^T W in float64, descending; NaN where a weight is not finite."""
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all():
        return np.full(min(weights.shape), np.nan)
    # Ten times faster than the singular values, and what a Gram matrix loses in float64, below
    # 1e-8 of the largest singular value, is less than the weights lost in float32.
    return np.maximum(np.linalg.eigvalsh(weights.T @ weights)[::-1], 0.0)


def localization(weights: np.ndarray) -> np.ndarray:
    """Gives the row of `LOCALIZATION`; NaN where a weight is not finite."""
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all():
        return np.full(len(LOCALIZATION), np.nan)
    result = fitting.localization(weights)
    parts = [
        getattr(part, measure)
        for part in (result.bulk, result.spikes)
        for measure in ("localization_ratio", "participation_ratio", "entropy")
    ]
    return np.array([result.num_spikes, *parts])
