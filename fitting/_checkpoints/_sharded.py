"""Checkpoints of many files, and folders that hold a checkpoint among other things."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._errors import CheckpointError, reading
from ._naming import keys_in_order
from ._tensor import Tensor, merge

INDEX = ".index.json"
# In the order in which a folder's files are taken: Hugging Face's own, then whatever is alone.
FAVOURITES = (
    "model.safetensors.index.json", "model.safetensors", "*.safetensors.index.json",
    "*.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin", "*.bin.index.json",
    "*.bin", "*.pt", "*.pth", "*.th", "*.tar", "*.ckpt", "flax_model.msgpack.index.json",
    "flax_model.msgpack", "*.msgpack",
    "*.keras", "*.weights.h5", "*.h5", "*.hdf5", "*.npz", "*.onnx",
    "*.gguf",
)  # fmt: skip
# What training leaves beside the weights.
NOT_WEIGHTS = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")

Reader = Callable[[Path], dict[str, Tensor]]


def read_index(path: Path, read: Reader) -> dict[str, Tensor]:
    """The tensors of all the files that an index names, by their names in these.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If the index is damaged or does not fit its files.
    """
    with reading(path, "index of a sharded checkpoint"):
        weight_map = _files_by_name(json.loads(path.read_text("utf-8"))["weight_map"])
        files = sorted(set(weight_map.values()))
        if outside := [file for file in files if Path(file).name != file]:
            raise ValueError(f"it names {outside[0]!r}; expected files of its own folder")
    shards: dict[str, dict[str, Tensor]] = {}
    for file in files:
        if not (path.parent / file).is_file():
            raise FileNotFoundError(f"{path.name} names {file}, which is not beside it")
        shards[file] = read(path.parent / file)
    for name, file in weight_map.items():
        if name not in shards[file]:
            raise CheckpointError(f"{path.name} says that {name!r} is in {file}, but it is not")
    order = {name: index for index, name in enumerate(keys_in_order(weight_map))}
    merged = merge(pair for shard in shards.values() for pair in shard.items())
    return dict(sorted(merged.items(), key=lambda item: order.get(item[0], len(order))))


def _files_by_name(weight_map: Any) -> dict[str, str]:
    if not (isinstance(weight_map, dict) and all(isinstance(f, str) for f in weight_map.values())):
        raise ValueError(f"its weight_map is {weight_map!r:.60}; expected names and their files")
    # Windows writes folders so, the file's own among them.
    return {name: file.replace("\\", "/").removeprefix("./") for name, file in weight_map.items()}


def find_checkpoint(folder: Path) -> Path:
    """The file that holds a folder's weights.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several of the same kind.
    """
    for pattern in FAVOURITES:
        files = [file for file in sorted(folder.glob(pattern)) if _may_be_weights(file)]
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise CheckpointError(f"{folder.name} holds several checkpoints; name one of {names}")
        if files:
            return files[0]
    raise FileNotFoundError(
        f"the folder {folder.name} holds no weights; expected an Orbax checkpoint, or one of "
        f"{', '.join(FAVOURITES)}"
    )


def _may_be_weights(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(NOT_WEIGHTS)
