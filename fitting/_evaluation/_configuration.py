"""What is known of a model beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._checkpoints import live_adapters


def read_configuration(model_or_path: Any) -> dict[str, Any]:
    """What a live model's ``config`` or the JSON files beside the weights say; or nothing."""
    if not isinstance(model_or_path, (str, Path)):
        # Those that wrap a module hand on its attributes, but for DataParallel and its like.
        inner = getattr(model_or_path, "module", model_or_path)
        found: Any = getattr(model_or_path, "config", getattr(inner, "config", None))
        found = found.to_dict() if hasattr(found, "to_dict") else found
        config = dict(found) if isinstance(found, Mapping) else {}
        return config | {"adapter": live_adapters(model_or_path)}
    path = Path(model_or_path)
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / "config.json")
    return config | {"adapter": _read_json(folder / "adapter_config.json")}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
