"""Mixtures of experts: a list of them, a stack of them and one long matrix, read alike."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import spectral_reg as sr

from .._checkpoints import Tensor
from .._checkpoints._tensor import reshaped

LISTED = re.compile(
    r"(?P<experts>(.*/)?(\w+_)?experts)/(?P<number>\d+)/(?P<layer>\w+)(?P<leaf>(/kernel|/weight)?)"
)
# The layers of a gated expert, by either of their names: gate, up, down.
GATED = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
STACKED = ("gate_up_proj", "gate_up_proj", "down_proj")
PARTS = ("gate", "up", "")
# DBRX keeps the experts one below the other; the router beside them has a column for each.
LONG = re.compile(r"(?P<mixture>.*)/experts/mlp/(w1|v1|w2)")

Shapes = Mapping[str, tuple[int, ...]]


class Place(NamedTuple):
    """Where an expert of a list has its rows: under the name of the stack, by its number."""

    name: str
    number: str


def place_experts(names: Collection[str]) -> dict[str, Place]:
    """The places of gated experts that are listed one by one, by the names of their tensors."""
    places = {}
    for name in names:
        if (match := LISTED.fullmatch(name)) and (place := _place(match, names)):
            places[name] = place
    return places


def _place(match: re.Match[str], names: Collection[str]) -> Place | None:
    layer, leaf, number = match["layer"], match["leaf"], match["number"]
    for layers in GATED:
        beside = (f"{match['experts']}/{number}/{other}{leaf}" for other in layers)
        if layer in layers and all(other in names for other in beside):
            part = PARTS[layers.index(layer)]
            stack = STACKED[layers.index(layer)]
            return Place(f"{match['experts']}/{stack}", f"{number},{part}" if part else number)
    return None


def unfold_experts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those that hold all experts in one long matrix as stacks."""
    unfolded = {}
    for name, tensor in tensors.items():
        if (match := LONG.fullmatch(name)) and tensor.ndim == 2 and not tensor.reason:
            router = tensors.get(f"{match['mixture']}/router/layer/kernel")
            number = router.shape[-1] if router else 0
            if number and tensor.shape[0] % number == 0:
                tensor = reshaped(tensor, (number, tensor.shape[0] // number, tensor.shape[1]))
        unfolded[name] = tensor
    return unfolded


def expert_axes(name: str, shape: tuple[int, ...], shapes: Shapes) -> sr.MatrixAxes | None:
    """The axes of a stack of gated experts, [in, out]; None where nothing tells them apart.

    Some have [experts, out, in] and some [experts, in, out], which the two stacks tell together:
    the first is twice as wide as the second.
    """
    *parents, last = ["", *name.split("/")]
    if len(shape) == 3 and LONG.fullmatch(name):
        return sr.MatrixAxes() if last == "w2" else sr.MatrixAxes(rows=2, cols=1)
    if last not in STACKED or len(shape) != 3:
        return None
    beside = "/".join((*parents[1:], STACKED[2] if last == STACKED[0] else STACKED[0]))
    other = shapes.get(beside, ())
    if len(other) != 3:
        return None
    (_, a, b), (_, c, d) = (shape, other) if last == STACKED[0] else (other, shape)
    if a == 2 * d and b == c:
        return sr.MatrixAxes(rows=2, cols=1)
    if b == 2 * c and a == d:
        return sr.MatrixAxes(rows=1, cols=2)
    return None
