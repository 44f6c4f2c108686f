"""The budgets that every experiment can be run at."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from examples.training import data
from examples.training.config import Config
from examples.training.penalties import PENALTIES


class Preset(NamedTuple):
    """A budget.

    Attributes:
        baseline: The run that an experiment varies.
        batch_sizes: From large to small.
        num_seeds: Runs of each configuration.
        reference: The batch size whose generalization a penalty is to reach at the largest one.
        learning_rates: Those of the learning-rate sweep, at the batch size `rate_batch_size`.
        strengths: How many strengths of each penalty are tried, the likeliest first.
        penalties: Which penalties are tried; at least L2 and a spectral one.
        epochs: Of the batch sizes that train for another number of epochs than the baseline.
    """

    baseline: Config
    batch_sizes: tuple[int, ...]
    num_seeds: int
    reference: int
    learning_rates: tuple[float, ...] = (0.00128, 0.01, 0.02, 0.08, 0.16)
    rate_batch_size: int = 64
    strengths: int = 4
    penalties: tuple[str, ...] = PENALTIES
    epochs: Mapping[int, int] = MappingProxyType({})

    def at(self, batch_size: int) -> Config:
        """The baseline at another batch size."""
        epochs = self.epochs.get(batch_size, self.baseline.epochs)
        return dataclasses.replace(self.baseline, batch_size=batch_size, epochs=epochs)

    @property
    def largest(self) -> Config:
        """The baseline at the largest batch size."""
        return self.at(max(self.batch_sizes))


ALL = (500, 250, 100, 50, 32, 16, 8, 4, 2)
CIFAR10 = Config("cifar10", 50_000, 10_000, batch_size=32, epochs=100, loss="mse")
# What the authors' script does. Of its 100 epochs, 45 hold 90 % of the learning rate.
ORIGINAL = dataclasses.replace(CIFAR10, batch_size=16, epochs=45, decay=0.95, init="original")

PRESETS = {
    "demo": Preset(
        Config("digits", 1536, 261, batch_size=64, epochs=6), (256, 64, 16, 4), 1, reference=16
    ),
    "quick": Preset(
        Config("cifar10", 5000, 10_000, batch_size=32, epochs=4), (500, 128, 32, 8), 1, reference=32
    ),
    # What 2 cores do in two hours. At ten times the papers' learning rate, so that the noise, which
    # is the learning rate over the batch size, is that of their b = 50 to 0.8.
    "small": Preset(
        dataclasses.replace(CIFAR10, train_size=2000, epochs=25, learning_rate=0.1),
        (500, 250, 100, 50, 32, 16, 8),
        5,
        reference=32,
        learning_rates=(0.0128, 0.1, 0.2, 0.8, 1.6),
        strengths=3,
    ),
    # What the paper's text says. It leaves the loss open; its script has the squared error.
    "paper": Preset(CIFAR10, ALL, 5, reference=32),
    "original": Preset(ORIGINAL, ALL, 3, reference=32),
    # The same images, rate and protocol, for as many epochs as seven minutes of an accelerator that
    # most batch sizes shared were enough for; 64, 50, 32 and 8 as half an hour of one core.
    "full": Preset(
        ORIGINAL,
        ALL,
        3,
        reference=16,
        strengths=2,
        epochs=MappingProxyType({100: 25, 64: 5, 50: 20, 32: 13, 16: 13, 8: 5, 4: 3, 2: 1}),
    ),
    "smoke": Preset(
        Config("digits", 64, 32, batch_size=16, epochs=1, network="tiny"),
        (32, 16),
        1,
        reference=16,
        learning_rates=(0.01,),
        rate_batch_size=16,
        strengths=1,
        penalties=("l2", "spectral_norm"),
    ),
}


def change(preset: Preset, **changes: object) -> Preset:
    """Gives the preset with other values in its baseline, its sizes within what the data has.

    Another number of epochs is that of all batch sizes.
    """
    baseline = dataclasses.replace(preset.baseline, **changes)  # type: ignore[arg-type]
    num_train, num_test = data.SIZES[baseline.data]
    baseline = dataclasses.replace(
        baseline,
        train_size=min(baseline.train_size, num_train),
        test_size=min(baseline.test_size, num_test),
    )
    epochs = MappingProxyType({}) if "epochs" in changes else preset.epochs
    return preset._replace(baseline=baseline, epochs=epochs)


def seeds_of(config: Config, first: int, number: int) -> list[Config]:
    """Gives the same run for `number` seeds."""
    return [dataclasses.replace(config, seed=seed) for seed in range(first, first + number)]


def equal_updates(config: Config, batch_size: int) -> Config:
    """Gives a run of another batch size with as many steps, and the same rate at each of them.

    A part of an epoch is left over. The learning rate decays by epochs, so its decay changes.
    """
    steps = config.num_steps * config.epochs
    other = dataclasses.replace(config, batch_size=batch_size)
    epochs = max(1, round(steps / other.num_steps))
    return dataclasses.replace(other, epochs=epochs, decay=config.decay ** (config.epochs / epochs))
