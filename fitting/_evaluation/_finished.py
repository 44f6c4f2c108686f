"""Finished parts of an evaluation: one weight, one file, written whole or not at all."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checkpoints import Tensor
from .._whole_file import written_whole
from ._unit import Unit

Rows = list[tuple[dict[str, Any], NDArray[np.float64]]]

PLAN = "evaluation.json"
UNITS = "weights"
ROWS = "rows"


class Finished:
    """A folder with what an evaluation has finished.

    Args:
        folder: Made if it is not there.
        what: Says what is evaluated and how, as JSON has it; see :func:`describe`.
        resume: Whether to go on with what the folder holds.

    Raises:
        ValueError: If the folder is a file, or holds an evaluation of something else, or any and
            ``resume`` is False.
    """

    def __init__(self, folder: Path, what: Mapping[str, Any], *, resume: bool) -> None:
        self._folder = folder
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"out is {folder}, a file; expected a folder, or a name for a new one")
        plan = folder / PLAN
        if plan.exists():
            _check(folder, _read_plan(plan), what, resume)
        (folder / UNITS).mkdir(parents=True, exist_ok=True)
        with written_whole(plan) as partial:
            partial.write_text(json.dumps(what, indent=1))

    def load(self, unit: Unit) -> Rows | None:
        """The rows and eigenvalues of a unit, or None if it is not finished."""
        try:
            # np.load leaves a damaged file open where it was given a path.
            with self._path(unit).open("rb") as file, np.load(file) as contents:
                rows = json.loads(str(contents[ROWS]))
                return [(row, contents[str(number)]) for number, row in enumerate(rows)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, unit: Unit, rows: Rows) -> None:
        """Writes the rows and eigenvalues of a unit."""
        path = self._path(unit)
        arrays = {str(number): values for number, (_, values) in enumerate(rows)}
        with written_whole(path) as partial, partial.open("wb") as file:
            text = json.dumps([row for row, _ in rows])
            np.savez(file, allow_pickle=False, **{ROWS: np.array(text)}, **arrays)
            file.flush()
            os.fsync(file.fileno())

    def _path(self, unit: Unit) -> Path:
        # Names have slashes, and two may differ in case alone.
        digest = hashlib.sha256(unit.key.encode()).hexdigest()[:8]
        readable = "".join(c if c.isalnum() else "-" for c in unit.key)[-80:]
        return self._folder / UNITS / f"{readable}-{digest}.npz"


def describe(
    model_or_path: Any, tensors: Mapping[str, Tensor], options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """What an evaluation is of: the options, and the files by size and time or the weights by hash.

    Args:
        model_or_path: As for :func:`fitting.evaluate`.
        tensors: From it.
        options: Whatever decides the result, as text.
        folder: Where the evaluation goes, which may lie inside that of the model.
    """
    shapes = {name: [tensor.dtype, *tensor.shape] for name, tensor in tensors.items()}
    what: dict[str, Any] = {"options": dict(options), "tensors": shapes}
    if isinstance(model_or_path, (str, Path)):
        what["files"] = {
            name: _size_and_time(path) for name, path in _files(Path(model_or_path), folder)
        }
    else:
        what["contents"] = {
            name: hashlib.blake2b(np.ascontiguousarray(tensor.read()).tobytes()).hexdigest()[:16]
            for name, tensor in tensors.items()
            if not tensor.reason
        }
    return what


def _files(path: Path, folder: Path) -> Sequence[tuple[str, Path]]:
    if not path.is_dir():
        return [(path.name, path)]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and folder.resolve() not in file.resolve().parents
    )
    return [(str(file.relative_to(path)), file) for file in files]


def _size_and_time(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_plan(plan: Path) -> dict[str, Any]:
    try:
        held = json.loads(plan.read_bytes())
    except ValueError:
        held = None
    if not (isinstance(held, dict) and all(isinstance(part, dict) for part in held.values())):
        raise ValueError(
            f"{plan} is damaged; expected what an evaluation wrote; give another folder"
        )
    return held


def _check(folder: Path, held: Any, what: Mapping[str, Any], resume: bool) -> None:
    if not resume:
        raise ValueError(
            f"out is {folder}, which holds an evaluation; expected resume=True (--resume in the "
            "shell) to complete it, or another folder"
        )
    # As JSON gives it back, tuples being lists.
    what = json.loads(json.dumps(what))
    differing = [name for name in what if (held.get(name) or {}) != what[name]]
    if differing:
        first = differing[0]
        parts = _differing_parts(held.get(first) or {}, what[first])
        raise ValueError(
            f"out is {folder}, with another evaluation: they differ in {first}: {parts}; expected "
            "the same model and options, or another folder"
        )


def _differing_parts(held: Mapping[str, Any], what: Mapping[str, Any]) -> str:
    names = [name for name in {**held, **what} if held.get(name) != what.get(name)]
    shown = [f"{name} was {held.get(name)}, is {what.get(name)}" for name in names[:3]]
    return "; ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
