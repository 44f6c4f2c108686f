"""Parameters from a checkpoint file, without running a stranger's code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import spectral_reg as sr

PICKLED = (".pt", ".pth", ".th", ".bin", ".tar")
SAFETENSORS = ".safetensors"
# Where training scripts put the state dict among epochs and optimizer states, in this order.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The parameters of a PyTorch or safetensors file, with Flax names and layouts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, the file is damaged, holds no tensors, or holds more
            than tensors (a pickle with classes is refused, never run).
        ImportError: If a pickle is to be read and torch is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    state_dict: Mapping[str, Any]
    if path.suffix == SAFETENSORS:
        state_dict = _read_safetensors(path)
    elif path.suffix in PICKLED:
        state_dict = _find_state_dict(_read_pickle(path), path)
    else:
        known = ", ".join((*PICKLED, SAFETENSORS))
        raise ValueError(f"{path.name} ends in {path.suffix!r}; expected one of {known}")
    return sr.params_from_torch(state_dict)


def _read_safetensors(path: Path) -> dict[str, Any]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no readable safetensors file: {error}") from error


def _read_pickle(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"reading {path.name} needs torch: pip install 'spectral-reg[torch]', or save the "
            "weights as .safetensors"
        ) from error
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} is no plain checkpoint: it is damaged, or holds Python objects beside "
            "its tensors, and those are never loaded. Where you trust its source, open it yourself "
            "and save the weights alone: torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path.name} is no readable PyTorch file: {error}") from error


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(hasattr(item, "detach") for item in value.values())


def _find_state_dict(loaded: Any, path: Path) -> Mapping[str, Any]:
    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates += [loaded[key] for key in STATE_DICT_KEYS if key in loaded]
    for candidate in candidates:
        if _is_state_dict(candidate):
            return {name: item for name, item in candidate.items() if hasattr(item, "detach")}
    keys = list(loaded) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise ValueError(
        f"{path.name} holds no tensors where they are looked for: expected a state dict, or a dict "
        f"with one under {', '.join(STATE_DICT_KEYS)}; it holds {keys}"
    )
