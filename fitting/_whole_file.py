"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_place(path: Path) -> None:
    """Refuses a place that no file can be written to.

    Raises:
        OSError: If it is a folder, or lies in none.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file to write to")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.parent} is missing; expected a folder to write {path.name} to"
        )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """The file beside ``path`` to write to; it takes that name once all is written.

    Raises:
        OSError: If it cannot be written there; then, as after any error within, nothing is left.
    """
    check_place(path)
    # Two processes may be writing the same file: neither may give its name to the other's half.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a PNG file, whole or not at all, and gives its path back."""
    with written_whole(path) as partial, warnings.catch_warnings():
        # Layers have names in any script, and no font has them all.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(partial, format="png")
    return path
