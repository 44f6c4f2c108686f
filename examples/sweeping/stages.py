"""The stages of `explicit_penalty.py`: the search, the controls of its best, the finalists."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from examples.sweeping import sweep
from examples.sweeping.cells import Cell
from examples.sweeping.presets import Preset, equal_updates, seeds_of
from examples.training.config import Config
from examples.training.data import SIZES, DataError
from examples.training.penalties import MULTIPLES, POWER_LAWS, SPECTRAL, penalized

ENOUGH = 0.99
Cells = Mapping[Config, Cell[Config]]


class Stages(NamedTuple):
    """The runs of the experiment, as far as they are known.

    Attributes:
        reached: Mean training accuracy of the large batch and of the reference at equal epochs,
            over the seeds; empty while it is not known.
        comparison: `"epochs"` or `"updates"`; empty while it is not known.
        search: Of each penalty its runs by multiple; under `""` the run without one, and under
            `"reference"` the smaller batch.
        best: Of each penalty its best multiple.
        controls: Of each penalty the control of its best run in the search.
        finalists: Runs by name, one seed each.
    """

    reached: tuple[float, ...]
    comparison: str
    search: dict[str, dict[float, Config]]
    best: dict[str, float]
    controls: dict[str, Config]
    finalists: dict[str, Config]


def _small(preset: Preset) -> int:
    return 8 if 8 in preset.batch_sizes else min(preset.batch_sizes)


def _of_size(config: Config, batch_size: int, comparison: str) -> Config:
    """The reference run at another batch size, at equal epochs or equal updates."""
    if comparison == "updates":
        return equal_updates(config, batch_size)
    return dataclasses.replace(config, batch_size=batch_size)


def _search(
    preset: Preset, options: argparse.Namespace, comparison: str
) -> dict[str, dict[float, Config]]:
    whole = preset.baseline
    validation = options.validation_size or max(1, whole.train_size // 10)
    # Held out of the finalists' training set too where the data has more images than they train on.
    most = SIZES[whole.data][0] if options.validation_size else whole.train_size
    train_size = min(options.search_size or whole.train_size, most - validation)
    if train_size < max(preset.batch_sizes):
        raise DataError(
            f"the search's train_size is {train_size} beside {validation} images for validation;"
            f" expected at least a batch of {max(preset.batch_sizes)}; give another --search-size"
            " or --validation-size"
        )
    reference = dataclasses.replace(
        whole,
        batch_size=preset.reference,
        seed=options.seed,
        train_size=train_size,
        validation_size=validation,
        epochs=options.search_epochs or whole.epochs,
    )
    plain = _of_size(reference, max(preset.batch_sizes), comparison)
    tried = {
        penalty: {
            multiple: penalized(plain, penalty, multiple)
            for multiple in MULTIPLES[penalty][: preset.strengths]
        }
        for penalty in preset.penalties
    }
    return {"": {0.0: plain}, "reference": {0.0: reference}} | tried


def stages(preset: Preset, options: argparse.Namespace, found: Cells) -> Stages:
    """Says which runs the experiment has, given those of them that are finished."""
    largest = max(preset.batch_sizes)
    reference = dataclasses.replace(preset.baseline, batch_size=preset.reference)
    plain = dataclasses.replace(reference, batch_size=largest)
    small = _of_size(reference, _small(preset), "epochs")
    finalists = {"none": plain, "reference": reference, "small batch": small}

    def every_seed(config: Config) -> list[Config]:
        return seeds_of(config, options.seed, preset.num_seeds)

    reached: tuple[float, ...] = ()
    if all(config in found for run in (plain, reference) for config in every_seed(run)):
        reached = tuple(
            float(np.mean([found[c].metrics["final_train_accuracy"] for c in every_seed(run)]))
            for run in (plain, reference)
        )
    comparison = options.compare
    if comparison == "auto":
        comparison = ""
        if reached:
            comparison = "epochs" if min(reached) >= ENOUGH else "updates"
    if not comparison:
        return Stages(reached, "", {}, {}, {}, finalists)

    search = _search(preset, options, comparison)
    large = _of_size(reference, largest, comparison)
    finalists |= {
        "none": large,
        "small batch": _of_size(reference, _small(preset), comparison),
    }
    known = Stages(reached, comparison, search, {}, {}, finalists)
    if any(config not in found for runs in search.values() for config in runs.values()):
        return known

    def score(penalty: str, multiple: float) -> float:
        return found[search[penalty][multiple]].metrics["final_test_accuracy"]

    def best_of(penalty: str) -> float:
        # The weaker of two that are equally good.
        return max(sorted(search[penalty]), key=lambda multiple: score(penalty, multiple))

    best = {penalty: best_of(penalty) for penalty in preset.penalties}
    controls = {
        penalty: dataclasses.replace(search[penalty][multiple], norm_matched=True)
        for penalty, multiple in best.items()
    }
    spectral = [penalty for penalty in SPECTRAL if penalty in preset.penalties]
    winner = max(spectral, key=lambda penalty: score(penalty, best[penalty]))
    finalists["best L2"] = penalized(large, "l2", best["l2"])
    finalists["best penalty"] = penalized(large, winner, best[winner])
    finalists["its control"] = dataclasses.replace(finalists["best penalty"], norm_matched=True)
    # Whatever the search says of weaker ones: the strength that makes the tail.
    for penalty in POWER_LAWS:
        if penalty in preset.penalties:
            tail = penalized(large, penalty, MULTIPLES[penalty][0])
            if tail != finalists["best penalty"]:
                finalists[penalty] = tail
                finalists[f"{penalty}, control"] = dataclasses.replace(tail, norm_matched=True)
    return Stages(reached, comparison, search, best, controls, finalists)


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs that are known: what is at equal epochs, the search, controls, finalists."""

    def runs(found: Cells) -> list[Config]:
        now = stages(preset, options, found)
        reference = dataclasses.replace(preset.baseline, batch_size=preset.reference)
        first = [reference]
        if options.compare == "auto":
            first.append(dataclasses.replace(reference, batch_size=max(preset.batch_sizes)))
        several = [*first, *now.finalists.values()]
        once = [config for each in now.search.values() for config in each.values()]
        return [
            *(c for run in several for c in seeds_of(run, options.seed, preset.num_seeds)),
            *once,
            *now.controls.values(),
        ]

    return runs


def to_come(preset: Preset, options: argparse.Namespace, found: Cells) -> int:
    """How many images the runs train on that wait for the outcome of others.

    What is compared is taken to be updates until it is known, which is the longer of the two.
    """
    now = stages(preset, options, found)
    comparison = now.comparison or "updates"
    search = now.search or _search(preset, options, comparison)
    reference = dataclasses.replace(preset.baseline, batch_size=preset.reference)
    large = _of_size(reference, max(preset.batch_sizes), comparison)
    images = 0
    if not now.search:
        images += sum(run.num_images for runs in search.values() for run in runs.values())
        small = _of_size(reference, _small(preset), comparison)
        again = [run for run in (large, small) if run not in now.finalists.values()]
        images += preset.num_seeds * sum(run.num_images for run in again)
    if not now.best:
        images += len(preset.penalties) * search[""][0.0].num_images
        tails = sum(penalty in preset.penalties for penalty in POWER_LAWS)
        images += (3 + 2 * tails) * preset.num_seeds * large.num_images
    return images
