"""Finished cells of a sweep: one run, one file, written whole or not at all."""

import dataclasses
import json
import os
import platform
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from examples.training.config import digest
from fitting._whole_file import written_whole

RECORD = "record"
PACKAGES = ("spectral-reg", "jax", "jaxlib", "flax", "optax", "numpy")

ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True)
class Cell(Generic[ConfigT]):
    """One finished run.

    Attributes:
        config: The dataclass that decides the run.
        metrics: Numbers and lists of numbers, as JSON has them.
        arrays: Spectra and the like.
        wall_time: Seconds that the run took.
        origin: Versions, commit and machine; see `origin`.
    """

    config: ConfigT
    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    wall_time: float
    origin: Mapping[str, Any]


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def origin() -> dict[str, Any]:
    """Tells what makes the cells of this process: versions, commit and machine.

    The commit is None outside a git checkout, and ends in `+` where files differ from it. A package
    that runs from its source tree, and is not installed, has no version.
    """
    commit = _git("rev-parse", "HEAD")
    if commit and _git("status", "--porcelain", "--untracked-files=no"):
        commit += "+"
    return {
        "commit": commit,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def write(folder: Path, cell: Cell, *, label: str) -> Path:
    """Writes a cell to a file of its own, which appears under its name only when it is complete.

    Args:
        folder: Made if it is not there.
        cell: The finished run.
        label: A readable start for the file's name; the rest comes from the configuration.

    Returns:
        The file.
    """
    config = dataclasses.asdict(cell.config)
    path = folder / f"{label}-{digest(config)}.npz"
    record = {
        "config": config,
        "metrics": cell.metrics,
        "wall_time": cell.wall_time,
        "origin": cell.origin,
    }
    contents: dict[str, Any] = {RECORD: np.array(json.dumps(record)), **cell.arrays}
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **contents)
        file.flush()
        os.fsync(file.fileno())
    return path


def read(path: Path, config_class: type[ConfigT]) -> Cell[ConfigT] | None:
    """Reads a cell.

    A field that `config_class` got after the cell was written has its default value.

    Returns:
        The cell, or None where the file is no such cell: damaged, or of another experiment.
    """
    try:
        # np.load leaves a damaged file open where it was given a path.
        with path.open("rb") as file, np.load(file) as contents:
            record = json.loads(str(contents[RECORD]))
            arrays = {name: contents[name] for name in contents.files if name != RECORD}
        config = config_class(**record.pop("config"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return Cell(config=config, arrays=arrays, **record)


def find(
    folders: Path | Iterable[Path], configs: Sequence[ConfigT]
) -> dict[ConfigT, Cell[ConfigT]]:
    """Finds the finished cells of these very configurations.

    Args:
        folders: Where cells are; they need not exist. What is in the first counts before the rest.
        configs: Dataclasses of one class, hashable.

    Returns:
        The cells that are there, in the order of `configs`.
    """
    if not configs:
        return {}
    wanted = set(configs)
    found = {
        cell.config: cell for cell in every(folders, type(configs[0])) if cell.config in wanted
    }
    return {config: found[config] for config in configs if config in found}


def every(folders: Path | Iterable[Path], config_class: type[ConfigT]) -> Iterator[Cell[ConfigT]]:
    """Reads all cells of a class that are in some folders, those of the first folder last."""
    several = [folders] if isinstance(folders, Path) else list(folders)
    for folder in reversed(several):
        for path in sorted(folder.glob("*.npz")):
            cell = read(path, config_class)
            if cell is not None:
                yield cell
