"""What training has changed of a model: its weights less those of its base, matrix by matrix."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .._checkpoints import Tensor
from ._layouts import Plan
from ._unit import Unit

# What wraps a model adds these to the front of its names, and adapters the last inside.
WRAPPERS = ("model", "module", "_orig_mod", "_forward_module", "base_model", "_fsdp_wrapped_module")
INSIDE = ("base_layer", "_checkpoint_wrapped_module")
LOW_RANK = ("lora", "lora_embedding")
LEAVES = ("kernel", "embedding", "weight")
# What DoRA stores beside the pair.
MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude")


def changes(
    tuned: Plan, tensors: Mapping[str, Tensor], base: Plan, base_tensors: Mapping[str, Tensor]
) -> Plan:
    """The plan of a tuned model, of which every unit reads its change instead.

    A weight stands against the base's of its name, whatever wraps the models: ``model/``,
    ``module/``, ``base_model/`` and the like at the front. A low-rank adapter is the change itself.

    Args:
        tuned: Of the tuned model, or of its adapter alone.
        tensors: Of the same.
        base: Of the base, with what is made of several tensors.
        base_tensors: Of the same; whether a plan would measure them, their names alone may not say.

    Returns:
        A plan of what both have. The tuned model's other weights are skipped, with the reason.

    Raises:
        ValueError: If the two have no weight in common.
    """
    by_name = _by_short_name(
        {name: one for name, one in base_tensors.items() if one.ndim > 1 and not one.reason}
        | {unit.key: unit.tensor for unit in base.units}
    )
    units, skipped = [], dict(tuned.skipped)
    for unit in tuned.units:
        of_base = _found(unit.key, by_name)
        if of_base is None and unit.place.isdecimal():
            of_base = _one_of(_found(unit.name, by_name), int(unit.place))
        if of_base is None:
            skipped[unit.name] = (unit.tensor.shape, "the base has no weight of its name")
            continue
        changed = _change(unit, of_base, tensors)
        if isinstance(changed, str):
            skipped[unit.name] = (unit.tensor.shape, changed)
        else:
            units.append(changed)
    if not units:
        reasons = Counter(skipped[unit.name][1] for unit in tuned.units)
        ours = [unit.name for unit in tuned.units][:3]
        theirs = [*by_name][:3]
        raise ValueError(
            f"base shares no weight with the model, which has {', '.join(ours)}, where the base "
            f"has {', '.join(theirs) or 'none'}; expected one of its names and shapes "
            f"({reasons.most_common(1)[0][0]})"
        )
    return Plan(tuple(units), skipped)


def short_name(name: str) -> str:
    """A name without what wraps a model."""
    parts = [part for part in name.split("/") if part not in INSIDE]
    while len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    return "/".join(parts)


def _by_short_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names, and by what is left of these where that is of one alone."""
    short = Counter(map(short_name, tensors))
    found = {short_name(name): tensor for name, tensor in tensors.items()}
    return {**tensors, **{name: one for name, one in found.items() if short[name] == 1}}


def _found(name: str, by_name: Mapping[str, Tensor]) -> Tensor | None:
    return next((by_name[other] for other in _names_in_base(name) if other in by_name), None)


def _one_of(stack: Tensor | None, place: int) -> Tensor | None:
    """One place of a stack that the base has whole; the rest is read too where it has to be."""
    if stack is None or stack.ndim < 3 or place >= stack.shape[0]:
        return None
    if stack.at is not None:
        return stack.at(place)
    steps = stack.read_steps
    return replace(
        stack,
        shape=stack.shape[1:],
        read=partial(_read_at, stack.read, place),
        read_steps=steps and partial(_read_at, steps, place),
    )


def _read_at(read: Callable[[], np.ndarray], place: int) -> np.ndarray:
    return read()[place]


def _names_in_base(name: str) -> list[str]:
    """What a weight may be called in the base, the likeliest first."""
    names = [name, short_name(name)]
    parts = short_name(name).split("/")
    for place, part in enumerate(parts):
        if part in LOW_RANK:
            module = "/".join(parts[:place])
            names += [f"{module}/{leaf}" for leaf in LEAVES]
    return names


def _change(unit: Unit, base: Tensor, tensors: Mapping[str, Tensor]) -> Unit | str:
    """The unit of the change, or why there is none."""
    if unit.low_rank is not None:
        return _change_by_adapter(unit, base, tensors)
    if unit.tensor.shape == base.shape:
        read_base = base.read
    elif unit.tensor.shape == base.shape[::-1] and unit.tensor.ndim == 2:
        read_base = partial(_transposed, base.read)
    else:
        return f"the base's is of shape {base.shape}"
    wide = "float64" in (unit.tensor.dtype, base.dtype)
    dtype = "float64" if wide else "float32"
    read = partial(_difference, unit.tensor.read, read_base, dtype)
    # Of two quantized weights the rounding of both is left.
    steps = [read for read in (unit.tensor.read_steps, base.read_steps) if read]
    tensor = replace(
        unit.tensor,
        dtype=dtype,
        read=read,
        read_steps=partial(_joint_steps, tuple(steps)) if steps else None,
        quantization=unit.tensor.quantization or base.quantization,
    )
    return replace(unit, tensor=tensor, read_base=read_base)


def _change_by_adapter(unit: Unit, base: Tensor, tensors: Mapping[str, Tensor]) -> Unit | str:
    product = unit.tensor.read_product
    shape = unit.low_rank
    if product is None or shape is None:
        return "an adapter whose product is not known"
    if unit.tensor.kind.endswith("not known"):
        return "an adapter whose alpha is not known: nothing says how large its change is"
    sides = base.shape
    if len(sides) == 2 and sides == shape:
        read_base = base.read
    elif len(sides) == 2 and sides[::-1] == shape:
        read_base = partial(_transposed, base.read)
    elif len(sides) > 2 and np.prod(sides[:-1]) * sides[-1] == np.prod(shape):
        return "an adapter of a convolution"
    else:
        return f"the base's is of shape {sides}"
    module = unit.name.rpartition("/lora")[0]
    magnitudes = [
        tensor
        for name, tensor in tensors.items()
        if any(name.startswith(f"{module}/{magnitude}") for magnitude in MAGNITUDES)
    ]
    if not magnitudes:
        return replace(unit, read_base=read_base, read_whole=product)
    read = partial(_dora, product, read_base, magnitudes[0].read)
    tensor = replace(unit.tensor, shape=shape, dtype="float64", read=read, kind="dora")
    return replace(unit, tensor=tensor, kind="dora", low_rank=None, read_base=read_base)


def _difference(
    read: Callable[[], np.ndarray], read_base: Callable[[], np.ndarray], dtype: str
) -> np.ndarray:
    change = read().astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        change -= read_base().astype(dtype)
    return change


def _transposed(read: Callable[[], np.ndarray]) -> np.ndarray:
    return read().T


def _joint_steps(reads: tuple[Callable[[], np.ndarray], ...]) -> Any:
    return np.sqrt(sum(np.square(read()) for read in reads))


def _dora(
    read_product: Callable[[], np.ndarray],
    read_base: Callable[[], np.ndarray],
    read_magnitude: Callable[[], np.ndarray],
) -> np.ndarray:
    """What DoRA makes of a weight [in, out], less the weight: its columns get given norms."""
    base = read_base().astype(np.float64)
    tuned = base + read_product()
    magnitude = read_magnitude().astype(np.float64).ravel()
    norms = np.linalg.norm(tuned, axis=0)
    tuned *= magnitude / np.where(norms > 0, norms, 1.0)
    return tuned - base
