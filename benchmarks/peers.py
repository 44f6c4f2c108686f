"""Other tools, each in an environment of its own: they pin what ours does not."""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENVIRONMENTS = Path(__file__).parents[1] / "build" / "peers"
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def environment(name: str, installs: Sequence[Sequence[str]]) -> Path:
    """The Python of an environment with these packages, which is made on the first call.

    Args:
        name: Of the environment.
        installs: Arguments of `pip install`, one call each.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print("installing", *(" ".join(arguments) for arguments in installs), file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for arguments in installs:
            subprocess.run([*pip, *arguments], check=True)
        (folder / "ready").touch()
    return python


def ask(
    name: str,
    installs: Sequence[Sequence[str]],
    worker: str,
    arrays: Mapping[str, np.ndarray],
    *,
    python: Path | None = None,
) -> Any:
    """Runs a script of this folder in the peers' environment, on one core.

    Args:
        name: Of the environment, which is made on the first call.
        installs: Arguments of `pip install`, one call each.
        worker: The script. It gets the path of an .npz file, and prints JSON as its last line.
        arrays: What the file holds.
        python: Of an environment that is there already, to be used instead.

    Returns:
        What the script printed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "arrays.npz"
        np.savez(path, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        answer = subprocess.run(
            [
                python or environment(name, installs),
                "-W",
                "ignore",
                Path(__file__).with_name(worker),
                path,
            ],
            env=os.environ | ONE_CORE,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(answer.stdout.splitlines()[-1])
