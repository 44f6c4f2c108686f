"""PyTorch files, without running a stranger's code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PICKLED = (".pt", ".pth", ".th", ".bin", ".tar")
# Where training scripts put the state dict among epochs and optimizer states, in this order.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")


def read_torch(path: Path) -> dict[str, Any]:
    """The tensors of a file's state dict, by their names in it.

    Raises:
        ValueError: If the file is damaged, holds no tensors, or holds more than tensors (a pickle
            with classes is refused, never run).
        ImportError: If torch is not installed.
    """
    return _find_state_dict(_read_pickle(path), path)


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


def _find_state_dict(loaded: Any, path: Path) -> dict[str, Any]:
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
