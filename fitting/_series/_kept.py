"""Finished matrices of a series in a folder: one file for each content, whatever the step."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._whole_file import written_whole

Rows = list[tuple[dict[str, Any], NDArray[np.float64]]]
Step = dict[str, Any]

OPTIONS = "options.json"
MATRICES, STEPS = "matrices", "steps"
ROWS = "rows"


class Kept:
    """Rows and eigenvalues by the digest of what they were measured on.

    Without a folder the rows are kept in memory, and the eigenvalues nowhere.

    Args:
        folder: Made if it is not there; None for none.
        options: Whatever decides the result beside the values.
        resume: Whether to go on with what the folder holds.

    Raises:
        ValueError: If the folder is a file, or holds a series with other options, or any and
            ``resume`` is False.
    """

    def __init__(self, folder: Path | None, options: Mapping[str, str], *, resume: bool) -> None:
        self._folder = folder
        self._rows: dict[str, Rows] = {}
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"out is {folder}, a file; expected a folder, or a name for a new one")
        place = folder / OPTIONS
        if place.exists():
            self._check(place, options, resume)
        for part in (MATRICES, STEPS):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with written_whole(place) as partial:
            partial.write_text(json.dumps(dict(options), indent=1))

    def load(self, digest: str) -> Rows | None:
        """The rows of a content, or None if it was not measured."""
        if digest in self._rows or self._folder is None:
            return self._rows.get(digest)
        try:
            with self._matrix(digest).open("rb") as file, np.load(file) as contents:
                rows = json.loads(str(contents[ROWS]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return self._remember(digest, [(row, np.empty(0)) for row in rows])

    def save(self, digest: str, rows: Rows) -> Rows:
        """Keeps the rows of a content; gives them without their eigenvalues."""
        if self._folder is not None:
            arrays = {str(number): values for number, (_, values) in enumerate(rows)}
            with written_whole(self._matrix(digest)) as partial, partial.open("wb") as file:
                text = np.array(json.dumps([row for row, _ in rows]))
                np.savez(file, allow_pickle=False, **{ROWS: text}, **arrays)
                file.flush()
                os.fsync(file.fileno())
        return self._remember(digest, [(row, np.empty(0)) for row, _ in rows])

    def load_step(self, step: int, what: Any) -> Step | None:
        """What a checkpoint consists of, if it was finished and its files are still the same."""
        if self._folder is None:
            return None
        try:
            held = json.loads(self._step(step).read_bytes())
        except (OSError, ValueError):
            return None
        same = isinstance(held, dict) and held.get("what") == json.loads(json.dumps(what))
        return held if same else None

    def save_step(self, step: int, content: Step) -> None:
        """Keeps what a finished checkpoint consists of."""
        if self._folder is not None:
            with written_whole(self._step(step)) as partial:
                partial.write_text(json.dumps(content))

    def _remember(self, digest: str, rows: Rows) -> Rows:
        self._rows[digest] = rows
        return rows

    def _matrix(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / MATRICES / f"{digest}.npz"

    def _step(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / STEPS / f"{step}.json"

    @staticmethod
    def _check(place: Path, options: Mapping[str, str], resume: bool) -> None:
        if not resume:
            raise ValueError(
                f"out is {place.parent}, which holds a series already; expected a new folder, or "
                "resume=True (--resume in the shell) to go on with it"
            )
        try:
            held = json.loads(place.read_bytes())
        except ValueError:
            held = None
        if not isinstance(held, dict):
            raise ValueError(f"{place} is damaged; expected what a series wrote, or another folder")
        differing = [name for name in options if held.get(name) != options[name]]
        if differing:
            name = differing[0]
            raise ValueError(
                f"out is {place.parent}, whose series has other options: {name} was "
                f"{held.get(name)}, is {options[name]}; expected another folder"
            )
