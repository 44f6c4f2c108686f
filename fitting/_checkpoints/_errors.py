"""What goes wrong in reading a file, as one kind of error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes that one byte of deflated data, or of HDF5's compression, can stand for. A file that claims
# more would fill the memory.
MAX_COMPRESSION = 1032


class CheckpointError(ValueError):
    """A file that cannot be read; says which one, and why."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns what a damaged file makes its reader raise into an error that names the file.

    Raises:
        CheckpointError: For whatever is raised within, but for a file or package that is not there.
    """
    try:
        yield
    except (CheckpointError, FileNotFoundError, PermissionError, ImportError):
        raise
    # Readers trust the bytes: garbage gives KeyError, TypeError, struct.error, MemoryError or
    # whatever its interpretation happens to run into.
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        if not said or not isinstance(error, (ValueError, OSError, RuntimeError)):
            said = f"it is damaged ({type(error).__name__}: {said})"
        raise CheckpointError(f"{path.name} is no readable {kind}: {said}") from error


def missing_package(path: Path, package: str, extra: str) -> ImportError:
    """The error of a format that an optional package reads."""
    return ImportError(
        f"reading {path.name} needs {package}: pip install 'spectral-reg[{extra}]', or save the "
        "weights as .safetensors"
    )
