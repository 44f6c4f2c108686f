"""The tensors of a model or file, whatever its format."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import spectral_reg as sr

from ._safetensors_files import SAFETENSORS, read_safetensors
from ._tensor import Tensor
from ._torch_files import PICKLED, read_torch


def open_checkpoint(model_or_path: Any) -> dict[str, Tensor]:
    """Every tensor of a model or file, by its path in Flax naming.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, the file is damaged, or it holds no tensors.
        ImportError: If the format needs a package that is not installed.
    """
    params = model_or_path
    if isinstance(model_or_path, (str, Path)):
        params = sr.params_from_torch(_read_state_dict(Path(model_or_path)))
    return {sr.path_name(path): _tensor(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def _read_state_dict(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)
    if path.suffix in PICKLED:
        return read_torch(path)
    known = ", ".join((*PICKLED, SAFETENSORS))
    raise ValueError(f"{path.name} ends in {path.suffix!r}; expected one of {known}")


def _tensor(leaf: Any) -> Tensor:
    if not hasattr(leaf, "ndim"):
        return Tensor((), "", partial(np.empty, 0), reason=f"no array but {type(leaf).__name__}")
    return Tensor(tuple(leaf.shape), str(leaf.dtype), partial(np.asarray, leaf))
