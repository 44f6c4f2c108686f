"""The tensors of a model or file, whatever its format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._errors import CheckpointError, reading
from ._gguf_files import GGUF, open_gguf
from ._jax_files import MSGPACK, find_orbax, open_msgpack, open_orbax, open_pytree
from ._keras_files import KERAS, open_keras
from ._naming import flax_named, is_named_by_torch
from ._nnx_modules import is_nnx_module, open_nnx_module
from ._numpy_files import NPZ, open_npz
from ._onnx_files import ONNX, open_onnx
from ._quantized import quantization_settings, read_quantized
from ._safetensors_files import SAFETENSORS, read_safetensors
from ._sharded import INDEX, find_checkpoint, read_index
from ._tensor import Tensor
from ._torch_files import PICKLED, open_torch, read_torch
from ._torch_modules import (
    is_torch_module,
    is_torch_state_dict,
    open_torch_module,
    open_torch_state_dict,
)


def open_checkpoint(model_or_path: Any) -> dict[str, Tensor]:
    """Every tensor of a model or file, by its path in Flax naming.

    Values are read when they are asked for, one tensor at a time. Only Flax msgpack files, ONNX
    files without external data and PyTorch files from before 2020 or with foreign classes are held
    in memory.

    Args:
        model_or_path: A pytree of parameters, a ``torch.nn.Module`` or state dict, or the path of:
            a PyTorch file (``.pt .pth .th .bin .tar .ckpt``); a ``.safetensors`` file; the
            ``.index.json`` of a sharded one of these; an ``.npz`` archive; a Flax ``.msgpack``
            file; a Keras file (``.keras .h5 .hdf5``); an ``.onnx`` or ``.gguf`` file; an Orbax
            folder; or a folder that holds one of all these, such as Hugging Face's.

    Raises:
        FileNotFoundError: If there is no such file, or one that it needs is missing.
        ValueError: If the format is unknown, the file is damaged, it holds no tensors, or two get
            the same path.
        ImportError: If the format needs a package that is not installed.
    """
    if isinstance(model_or_path, (str, Path)):
        path = find_file(Path(model_or_path).absolute())  # processes may work in other folders
        with reading(path, "checkpoint"):
            tensors = _open_path(path)
        if not tensors:
            raise ValueError(f"{path.name} holds no tensors")
        return tensors
    try:
        return _open_in_memory(model_or_path)
    except RecursionError:
        raise ValueError(
            "model_or_path contains itself, or is nested too deeply to be read; expected a tree"
        ) from None


def _open_in_memory(model_or_path: Any) -> dict[str, Tensor]:
    if is_torch_module(model_or_path):
        return open_torch_module(model_or_path)
    if is_torch_state_dict(model_or_path):
        return open_torch_state_dict(model_or_path)
    if is_named_by_torch(model_or_path):
        return flax_named(read_quantized(open_pytree(model_or_path), {}))
    if is_nnx_module(model_or_path):
        return open_nnx_module(model_or_path)
    return open_pytree(model_or_path)


def find_file(path: Path) -> Path:
    """The file, or the Orbax folder, that is read where this path is given.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a folder holds several.
    """
    if path.is_dir():
        return find_orbax(path) or find_checkpoint(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    return path


def _open_path(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return open_orbax(path)
    if path.name.endswith(SAFETENSORS + INDEX):
        return flax_named(_weights(path, read_index(path, read_safetensors)))
    if path.name.endswith(MSGPACK + INDEX):
        return read_index(path, open_msgpack)
    if path.name.endswith(INDEX):
        return flax_named(_weights(path, read_index(path, read_torch)))
    if path.suffix not in FORMATS:
        known = ", ".join((*FORMATS, INDEX))
        raise CheckpointError(f"{path.name} ends in {path.suffix!r}; expected one of {known}")
    return FORMATS[path.suffix](path)


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    return flax_named(_weights(path, read_safetensors(path)))


def _weights(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return read_quantized(tensors, quantization_settings(path.parent))


FORMATS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    **dict.fromkeys(PICKLED, open_torch),
    SAFETENSORS: _open_safetensors,
    NPZ: open_npz,
    MSGPACK: open_msgpack,
    **dict.fromkeys(KERAS, open_keras),
    ONNX: open_onnx,
    GGUF: open_gguf,
}
