"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of ``path`` when all of it is written."""
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    os.replace(partial, path)
