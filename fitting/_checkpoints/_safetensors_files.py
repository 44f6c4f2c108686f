"""Safetensors files."""

from pathlib import Path
from typing import Any

SAFETENSORS = ".safetensors"


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a file, by their names in it.

    Raises:
        ValueError: If the file is damaged.
    """
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no readable safetensors file: {error}") from error
