"""Large stacks of matrices, such as experts, of which one is in memory at a time."""

import math
from dataclasses import replace

import numpy as np

from ._unit import Unit

# Stacks of more values are measured place by place, where a place has this many at least: less is
# not worth a task of its own.
STACK_VALUES, PLACE_VALUES = 2**24, 2**16


def one_by_one(unit: Unit) -> list[Unit]:
    """A unit for each place of the first axis of a large stack, so that one is in memory at a time.

    The unit alone where it is no such stack, or its file has to be read as a whole.
    """
    tensor, size = unit.tensor, math.prod(unit.tensor.shape)
    if tensor.at is None or size < max(STACK_VALUES, PLACE_VALUES * tensor.shape[0]):
        return [unit]
    # Counted from the end, they are those of one place too.
    rows, cols, window, batch = (
        tuple(axis % tensor.ndim - tensor.ndim for axis in np.atleast_1d(part).tolist())
        for part in (unit.axes.rows, unit.axes.cols, unit.axes.window, unit.axes.batch)
    )
    first = -tensor.ndim
    if first in rows + cols + window or batch[:1] not in ((), (first,)):
        return [unit]
    axes = unit.axes._replace(rows=rows, cols=cols, window=window, batch=batch[1:])
    units = []
    for place in range(tensor.shape[0]):
        at = tensor.at(place)
        one = replace(tensor, shape=at.shape, read=at.read, read_steps=at.read_steps, at=None)
        units.append(replace(unit, tensor=one, axes=axes, place=str(place)))
    return units
