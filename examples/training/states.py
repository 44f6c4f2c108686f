"""The state of an unfinished run, kept in a file so that a kill costs an epoch and not the run."""

import dataclasses
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from examples.training.config import Config, digest
from examples.training.outcome import Record
from examples.training.steps import State
from fitting._whole_file import written_whole

# At the end of an epoch, and not sooner than this after the last time.
SECONDS_BETWEEN = 600.0
ABOUT = "about"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


class OutOfTime(Exception):
    """The time given would be over before the next epoch is; what was trained is kept."""


def place(folder: Path, configs: Sequence[Config]) -> Path:
    """The file in which runs that train together keep their state.

    It is that of their way, which the number of epochs does not change: a longer run goes on where
    a shorter one stands.
    """
    way = [dataclasses.asdict(config) | {"epochs": 0} for config in configs]
    several = f"-x{len(configs)}" if len(configs) > 1 else ""
    return folder / f"{configs[0].label}{several}-{digest(way)}.state"


def saved_epochs(folder: Path, configs: Sequence[Config]) -> int:
    """How many epochs of these runs need not be trained again."""
    try:
        with place(folder, configs).open("rb") as file, np.load(file) as contents:
            epoch = json.loads(str(contents[ABOUT]))["epoch"]
    except UNREADABLE:
        return 0
    return epoch if epoch <= configs[0].epochs else 0


class Keeper:
    """Keeps and restores the state of runs that train together.

    Args:
        folder: Where; made when there is something to keep.
        configs: The runs.
        origin: What makes them, as `cells.origin` gives it.
        deadline: When `time.time` has come to it, to stop; never if None.
        to_the_end: Whether the state of the finished run is kept too, for a longer one.

    Attributes:
        origins: Of all that had a part in the runs, this process last.
    """

    def __init__(
        self,
        folder: Path,
        configs: Sequence[Config],
        origin: Mapping[str, Any],
        *,
        deadline: float | None = None,
        to_the_end: bool = False,
    ):
        self.path = place(folder, configs)
        self.origins = [dict(origin)]
        self._configs, self._deadline, self._to_the_end = configs, deadline, to_the_end
        self._before = 0.0
        self._start = self._last_save = self._last_epoch = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the runs have trained, earlier processes included."""
        return self._before + time.monotonic() - self._start

    def restore(self, state: State, records: Sequence[Record]) -> tuple[int, State]:
        """Gives the number of epochs that are done, and the state after them.

        Args:
            state: The one at the start, which is given back where nothing fits is kept.
            records: Take up what was measured.
        """
        try:
            with self.path.open("rb") as file, np.load(file) as contents:
                about = json.loads(str(contents[ABOUT]))
                arrays = {name: contents[name] for name in contents.files if name != ABOUT}
        except UNREADABLE:
            return 0, state
        leaves, structure = jax.tree.flatten(state)
        kept = [arrays.get(f"leaf{index}") for index in range(len(leaves))]
        fits = about["epoch"] <= self._configs[0].epochs and all(
            old is not None and (old.shape, old.dtype) == (np.shape(leaf), leaf.dtype)
            for old, leaf in zip(kept, leaves, strict=True)
        )
        if not fits:
            return 0, state
        for index, record in enumerate(records):
            start = f"run{index}/"
            own = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
            if not record.take_up(about["epoch"], about["metrics"][index], own):
                return 0, state
        self._before = about["seconds"]
        self.origins = [origin for origin in about["origins"] if origin != self.origins[-1]] + [
            self.origins[-1]
        ]
        # On the device and owned by it, as after a step, which may overwrite what it is given.
        return about["epoch"], jax.tree.unflatten(structure, [jax.device_put(k) for k in kept])

    def after_epoch(self, epoch: int, state: State, records: Sequence[Record]) -> None:
        """Keeps the state if it is time to.

        Raises:
            OutOfTime: The deadline is nearer than an epoch takes.
        """
        now = time.monotonic()
        took, self._last_epoch = now - self._last_epoch, now
        is_last = epoch == self._configs[0].epochs
        stops = self._deadline is not None and time.time() + took > self._deadline and not is_last
        due = now - self._last_save >= SECONDS_BETWEEN and not is_last
        if stops or due or (is_last and self._to_the_end):
            self._save(epoch, state, records)
            self._last_save = now
        if stops:
            raise OutOfTime

    def _save(self, epoch: int, state: State, records: Sequence[Record]) -> None:
        leaves = jax.device_get(jax.tree.leaves(state))
        contents: dict[str, Any] = {f"leaf{index}": leaf for index, leaf in enumerate(leaves)}
        metrics = []
        for index, record in enumerate(records):
            numbers, measured = record.so_far()
            metrics.append(numbers)
            contents |= {f"run{index}/{name}": array for name, array in measured.items()}
        about = {
            "epoch": epoch,
            "seconds": self.seconds,
            "metrics": metrics,
            "origins": self.origins,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **(contents | {ABOUT: np.array(json.dumps(about))}))
            file.flush()
            os.fsync(file.fileno())
