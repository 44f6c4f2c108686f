"""What training leaves, without the work, for tests of what is done with it."""

import dataclasses
import functools

import numpy as np

from examples.sweeping import cells
from examples.training.measures import LOCALIZATION
from examples.training.networks import LAYERS
from examples.training.outcome import Outcome, measured_epochs
from examples.training.steps import State


@functools.cache
def noise(shape, seed=0):
    """Eigenvalues of a Gaussian matrix of variance 1/N."""
    weights = np.random.default_rng(seed).normal(size=shape) / np.sqrt(max(shape))
    return np.linalg.svd(weights, compute_uv=False) ** 2


def fake_train(config, dataset, on_images=lambda number: None, norms=None, **kept):
    """Noise that depends on the seed; accuracies that depend on the batch size."""
    epochs = measured_epochs(config.epochs, config.train_size)
    arrays = {}
    for name, shape in LAYERS[config.network].items():
        arrays[name] = np.stack([noise(shape, config.seed)] * len(epochs))
        arrays[f"localization_{name}"] = np.ones((len(epochs), len(LOCALIZATION)))
    if config.penalty and not config.norm_matched:
        arrays["norms"] = np.ones((config.num_steps * config.epochs, 3), np.float32)
    test = 0.8 - config.batch_size / 1000 + 0.02 * bool(config.penalty) - 0.001 * config.seed
    metrics = {
        "epochs": epochs,
        "train_loss": [0.1] * config.epochs,
        "train_accuracy": [0.9] * config.epochs,
        "test_accuracy": [test] * (len(epochs) - 1),
        "final_train_accuracy": 1.0,
        "final_test_accuracy": test,
    }
    on_images(config.num_images)
    return Outcome(State({}, {}, ()), metrics, arrays)


def finished(config, seed=0, **changes):
    """The cell of a configuration with another seed, and some metrics changed."""
    config = dataclasses.replace(config, seed=seed)
    outcome = fake_train(config, None)
    return cells.Cell(config, outcome.metrics | changes, outcome.arrays, 1.0, cells.origin())
