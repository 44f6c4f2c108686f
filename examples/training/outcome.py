"""What is kept of a run: measured between its epochs, and in full at its end."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from examples.training import measures
from examples.training.config import Config
from examples.training.data import NUM_CLASSES, Dataset
from examples.training.networks import LAYERS
from examples.training.steps import State, Totals, initial

NUM_IMAGES_FOR_NORMS = 1024
NUM_IMAGES_PER_EPOCH_TEST = 1000
MAX_MEASURED = 100
NUM_IMAGES_BETWEEN_MEASUREMENTS = 5000
LEAST_MEASURED = 8


class Outcome(NamedTuple):
    """What a run leaves.

    Attributes:
        state: Its last state.
        metrics: `epochs` that were measured, 0 among them; training loss and accuracy of each
            epoch, as it went; test accuracy after the measured ones, on the first 1,000 images;
            both accuracies in full at the end. Batch-norm statistics are fresh in all of them but
            the training's own.
        arrays: For each layer its eigenvalues and, as `localization_LAYER`, the columns of
            `measures.LOCALIZATION`, at the measured epochs; of a penalized run, the `norms` of all
            weight matrices after every step.
    """

    state: State
    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]


def labels_of(config: Config, dataset: Dataset) -> np.ndarray:
    """The training labels, some of them drawn at random if the run asks for that."""
    labels = dataset.train_labels.copy()
    rng = np.random.default_rng([config.seed, len(labels)])
    chosen = rng.permutation(len(labels))[: round(config.random_labels * len(labels))]
    labels[chosen] = rng.integers(NUM_CLASSES, size=len(chosen))
    return labels


def measured_epochs(epochs: int, num_images: int) -> list[int]:
    """Which epochs of so many images are measured: all of them, unless they are short or many.

    A measurement looks at 2,000 images and takes two decompositions. Where that is much beside an
    epoch's training, every second or third is measured, but eight at least; of many, a hundred.
    """
    every = min(-(-NUM_IMAGES_BETWEEN_MEASUREMENTS // num_images), max(1, epochs // LEAST_MEASURED))
    number = min(MAX_MEASURED, -(-epochs // every))
    return [0, *np.unique(np.linspace(every, epochs, number).round().astype(int)).tolist()]


class Record:
    """What is kept of one run while it trains."""

    def __init__(self, config: Config, dataset: Dataset):
        self.config, self.dataset = config, dataset
        self.graph, self.params, self.batch_stats = initial(config)
        self.labels = labels_of(config, dataset)
        self.images_for_norms = jnp.asarray(dataset.train_images[:NUM_IMAGES_FOR_NORMS])
        self.epochs = measured_epochs(config.epochs, config.train_size)
        self.metrics: dict[str, Any] = {
            "epochs": self.epochs,
            "train_loss": [],
            "train_accuracy": [],
            "test_accuracy": [],
        }
        self.arrays: dict[str, list[np.ndarray]] = {}
        self._measure(self.params)

    def so_far(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The metrics and the arrays of the epochs until now."""
        arrays = {
            name: np.concatenate(parts) if name == "norms" else np.stack(parts)
            for name, parts in self.arrays.items()
        }
        return self.metrics, arrays

    def take_up(
        self, num_epochs: int, metrics: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> bool:
        """Goes on from what `so_far` gave after some epochs of this run, or of a shorter one.

        Returns:
            Whether it can: what was measured must be what this run measures until then.
        """
        measured = [number for number in self.epochs if number <= num_epochs]
        if measured != [number for number in metrics["epochs"] if number <= num_epochs]:
            return False
        self.metrics = metrics | {"epochs": self.epochs}
        self.arrays = {
            name: [array] if name == "norms" else list(array) for name, array in arrays.items()
        }
        return True

    def _measure(self, params: dict) -> None:
        for layer in LAYERS[self.config.network]:
            weights = np.asarray(params[layer]["kernel"])
            self.arrays.setdefault(layer, []).append(measures.eigenvalues(weights))
            row = measures.localization(weights)
            self.arrays.setdefault(f"localization_{layer}", []).append(row)

    def _statistics(self, state: State) -> dict:
        return measures.fresh_statistics(
            self.graph, state.params, state.batch_stats, self.images_for_norms
        )

    def epoch(self, number: int, state: State, totals: Totals) -> None:
        """Takes note of an epoch, whose totals have a leading axis of steps."""
        num_images = self.config.num_steps * self.config.batch_size
        self.metrics["train_loss"].append(float(np.sum(totals.loss)) / num_images)
        self.metrics["train_accuracy"].append(float(np.sum(totals.correct)) / num_images)
        if isinstance(totals.norms, np.ndarray):
            self.arrays.setdefault("norms", []).append(totals.norms)
        if number in self.epochs:
            self._measure(state.params)
            some = slice(NUM_IMAGES_PER_EPOCH_TEST)
            images, labels = self.dataset.test_images[some], self.dataset.test_labels[some]
            stats = self._statistics(state)
            share = measures.accuracy(self.graph, state.params, stats, images, labels)
            self.metrics["test_accuracy"].append(share)

    def outcome(self, state: State) -> Outcome:
        """Measures both accuracies in full, and gives all that was kept."""
        network = (self.graph, state.params, self._statistics(state))
        data = self.dataset
        metrics = self.metrics | {
            "final_train_accuracy": measures.accuracy(*network, data.train_images, self.labels),
            "final_test_accuracy": measures.accuracy(*network, data.test_images, data.test_labels),
        }
        return Outcome(state, metrics, self.so_far()[1])
