"""The checkpoints of a run, in the order of their steps."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .._checkpoints import FORMATS, INDEX, find_file

# step=1000, step_1000, checkpoint-1000, global_step1000; else the last number of a name.
STEP = re.compile(r"(?:step|iter|iteration|checkpoint|ckpt)[-_=]?(\d+)", re.IGNORECASE)
NUMBER = re.compile(r"\d+")


class Checkpoint(NamedTuple):
    """A model at a step: a path, or one in memory."""

    step: int
    model: Any


def find_checkpoints(checkpoints: Any) -> list[Checkpoint]:
    """The checkpoints of a folder, a list or a dict by step, by increasing step.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there are fewer than two, two are of one step, or one that has a number in
            its name holds no checkpoint.
        TypeError: If it is none of these.
    """
    if isinstance(checkpoints, (str, Path)):
        found = _in_folder(Path(checkpoints))
    elif isinstance(checkpoints, Mapping):
        if not all(isinstance(step, int) for step in checkpoints):
            raise TypeError(
                "checkpoints is a dict with other keys than steps; expected {int: model}"
            )
        found = [Checkpoint(step, model) for step, model in checkpoints.items()]
    elif isinstance(checkpoints, Sequence):
        found = _in_list(checkpoints)
    else:
        raise TypeError(
            f"checkpoints is a {type(checkpoints).__name__}; expected a folder, a list of paths or "
            "models, or a dict of these by step"
        )
    twice = [step for step, count in Counter(step for step, _ in found).items() if count > 1]
    if twice:
        names = ", ".join(str(model) for step, model in found if step == twice[0])
        raise ValueError(f"checkpoints has {names} at step {twice[0]}; expected one a step")
    if len(found) < 2:
        raise ValueError(f"checkpoints has {len(found)} of them; expected at least 2")
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _in_folder(folder: Path) -> list[Checkpoint]:
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise ValueError(f"checkpoints is {folder}, a file; expected a folder of checkpoints")
    found = []
    for path in sorted(folder.iterdir()):
        step = _step(path.name)
        if step is None or path.name.startswith(".") or path.name.endswith(INDEX):
            continue
        if path.is_dir():
            try:
                found.append(Checkpoint(step, find_file(path)))
            except FileNotFoundError as error:
                raise ValueError(
                    f"{path} holds no checkpoint ({error}); expected one, or a list of paths"
                ) from None
        elif path.suffix in FORMATS:
            found.append(Checkpoint(step, path))
    return found


def _in_list(models: Sequence[Any]) -> list[Checkpoint]:
    steps = [_step(Path(m).name) if isinstance(m, (str, Path)) else None for m in models]
    numbered = [step for step in steps if step is not None]
    # Without numbers that tell them apart the order is the time.
    if len(numbered) < len(models) or len(set(numbered)) < len(models):
        numbered = list(range(len(models)))
    return [Checkpoint(step, model) for step, model in zip(numbered, models, strict=True)]


def _step(name: str) -> int | None:
    if match := STEP.search(name):
        return int(match[1])
    stem = name.removesuffix(Path(name).suffix) if Path(name).suffix in FORMATS else name
    numbers = NUMBER.findall(stem)
    return int(numbers[-1]) if numbers else None
