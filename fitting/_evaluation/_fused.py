"""How the models that use a weight's name lay it out, beyond what the name alone says."""

from collections.abc import Mapping
from typing import Any

from spectral_reg._default_axes import sizes
from spectral_reg._fused import GATE_AND_UP, GATED
from spectral_reg._leaf_names import EXPERT_WORDS, has_word
from spectral_reg._reading import LeafReading

from ._architectures import FUSED, INPUT_LINEAR, INTERLEAVED, fused_turns, is_model
from ._experts import expert_axes
from ._unit import Split

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]


def known_layout(
    name: str, reading: LeafReading, shapes: Shapes, config: Config
) -> tuple[LeafReading, Split | None]:
    """How a weight is laid out, with its parts where these are not simply equal.

    Args:
        name: The path.
        reading: From the name and the shapes alone.
        shapes: Of all tensors.
        config: The model's ``config.json``.
    """
    axes = reading.axes
    if axes is None or axes.window or reading.kind in ("lstm", "gru", "rnn", "bilinear"):
        return reading, None
    if is_turned(name, shapes):
        reading = reading._replace(axes=axes._replace(rows=1, cols=0))
    parts = name.split("/")
    if reading.kind == "stack" and has_word(parts, (*EXPERT_WORDS, "moe")):
        reading = reading._replace(kind="experts")
    if stack := expert_axes(name, shapes[name], shapes):
        reading = reading._replace(axes=stack)
    kind, split = _attention(name, reading, config)
    if not kind:
        kind, split = _gate_and_up(name, reading, shapes, config, known=stack is not None)
    if kind and reading.axes:
        reading = reading._replace(kind=kind, axes=reading.axes._replace(parts=1), doubt=None)
    return reading, split


def _attention(name: str, reading: LeafReading, config: Config) -> tuple[str, Split | None]:
    """Query, key and value as the model's configuration cuts them; an empty kind if it does not."""
    *_, layer, last = ["", *name.split("/")]
    fused = last if last in FUSED else layer
    if fused not in FUSED or reading.axes is None:
        return "", None
    matrix = sizes(reading.shape, reading.axes)[1:]
    for axis in (-1, -2):
        if turns := fused_turns(fused, matrix[axis], matrix[-3 - axis], config):
            parts, widths = zip(*turns.pieces, strict=True)
            return "kv" if len(parts) == 2 else "qkv", Split(parts, axis, turns.number, widths)
    return "", None


def _gate_and_up(
    name: str, reading: LeafReading, shapes: Shapes, config: Config, *, known: bool
) -> tuple[str, Split | None]:
    """The two halves of stacked experts, where it is ``known`` along which axis they lie."""
    *_, layer, last = ["", *name.split("/")]
    if reading.kind != "experts" or reading.axes is None:
        return "", None
    if layer == "input_linear" and is_model(config, *INPUT_LINEAR):
        return "experts", Split(GATE_AND_UP)
    if not {last, layer} & {*GATED}:
        return "", None
    if not known:
        return "fused gate_up", None
    num_outputs = sizes(reading.shape, reading.axes)[2]
    in_turns = f"{name}_bias" in shapes or is_model(config, *INTERLEAVED)
    return "experts", Split(GATE_AND_UP, num_turns=num_outputs // 2 if in_turns else 1)


def is_turned(name: str, shapes: Shapes) -> bool:
    """Whether a kernel of two axes is [out, in]: PyTorch's layers that keep [in, out], turned.

    The bias beside it is as long as one of its sides. Where they are equal, or there is no bias,
    what layers of the same name elsewhere are decides.
    """
    layer, _, last = name.rpartition("/")
    if last != "kernel" or len(shapes[name]) != 2:
        return False
    known = _turned(name, shapes)
    if known is not None:
        return known
    same = f"/{layer.rpartition('/')[2]}/kernel"
    others = {_turned(o, shapes) for o, s in shapes.items() if len(s) == 2 and o.endswith(same)}
    return others - {None} == {True}


def _turned(name: str, shapes: Shapes) -> bool | None:
    rows, cols = shapes[name]
    bias = shapes.get(f"{name.rpartition('/')[0]}/bias".removeprefix("/"), ())
    if rows == cols or len(bias) != 1 or bias[0] not in (rows, cols):
        return None
    return bias[0] == rows
