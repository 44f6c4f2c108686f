"""Finished programs of trials: one JSON file each, written whole or not at all."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from examples.claims.claim import Measured, Setting
from examples.training.config import digest

DIGITS = 6


class Job(NamedTuple):
    """What decides the numbers of a cell.

    Attributes:
        claim: Its name, or that under which several keep their cells together.
        preset: Its name.
        arm: Its name.
        phase: `"tune"` or `"judge"`.
        settings: Each of them is run on all seeds.
        seeds: Of the runs.
        size: The budget and the task's options.
    """

    claim: str
    preset: str
    arm: str
    phase: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    size: Any

    def path(self, folder: Path) -> Path:
        """The file of its cell."""
        name = "-".join([self.claim, self.preset, self.arm.replace(" ", "_"), self.phase])
        return folder / f"{name}-{digest(self)}.json"


class Cell(NamedTuple):
    """A finished job.

    Attributes:
        measured: Name to `[num_settings * num_seeds, ...]`, the seeds of one setting in a row.
        seconds: That the run took, and with what came before it, its compilation.
        device: On which it ran.
        num_seeds: Of each setting.
    """

    measured: Measured
    seconds: float
    device: str
    num_seeds: int = 1


def write(folder: Path, job: Job, measured: Mapping[str, Any], seconds: float) -> Cell:
    """Writes a cell; its file appears under its name only when it is complete."""
    numbers = {
        name: [_short(number) for number in np.asarray(values, np.float64).ravel()]
        for name, values in measured.items()
    }
    device = jax.devices()[0]
    place = f"{os.cpu_count()} CPUs" if device.platform == "cpu" else device.device_kind
    record = {
        "job": job._asdict(),
        "shapes": {name: np.shape(values) for name, values in measured.items()},
        "measured": numbers,
        "seconds": round(seconds, 2),
        "device": place,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = job.path(folder)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(record))
    os.replace(partial, path)
    return Cell(_arrays(record), seconds, place, len(job.seeds))


def read(folder: Path, job: Job) -> Cell | None:
    """The cell of a job, or None where it is not there or damaged."""
    try:
        record = json.loads(job.path(folder).read_text())
        return Cell(_arrays(record), record["seconds"], record["device"], len(job.seeds))
    except (OSError, ValueError, KeyError):
        return None


def _short(number: float) -> float | None:
    return float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None


def _arrays(record: Mapping[str, Any]) -> Measured:
    return {
        name: np.array(values, np.float64).reshape(record["shapes"][name])
        for name, values in record["measured"].items()
    }
