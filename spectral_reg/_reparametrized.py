"""Weights that a layer makes of what is trained: weight and spectral normalization."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._axes import Shape

EPSILON = 1e-12
# Flax nnx keeps the layer under this name; without what lies beside it the weight is not known.
WRAPPED = "layer_instance"


class Form(NamedTuple):
    """How a weight is made.

    Attributes:
        kind: ``"weight_norm"``: direction and length; ``"spectral_norm"``: the weight and the
            vectors of a power iteration. Empty if it is made of something that is not there.
        sources: The paths of what it is made of. The first is that of the direction.
        features: Weight normalization: the axes that have lengths of their own. Spectral
            normalization: 0 where the first axis has the rows, -1 where the last has the columns.
    """

    kind: str
    sources: tuple[str, ...]
    features: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reparametrized:
    """A weight by what it is made of; a pytree, so that its gradient goes to all of that.

    Attributes:
        sources: What it is made of, by path.
        form: How.
    """

    sources: dict[str, Any]
    form: Form

    @property
    def shape(self) -> Shape:
        """Of the weight."""
        return tuple(self.sources[self.form.sources[0]].shape)

    @property
    def weight(self) -> Any:
        """What the layer multiplies by."""
        return make_weight(self.form, [self.sources[source] for source in self.form.sources])


def by_source(gradient: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient of each leaf, where some are of weights that are made of several."""
    parts: dict[str, Any] = {}
    for name, part in gradient.items():
        parts |= part.sources if isinstance(part, Reparametrized) else {name: part}
    return parts


jax.tree_util.register_dataclass(Reparametrized, data_fields=["sources"], meta_fields=["form"])


def make_weight(form: Form, values: list[Any]) -> Any:
    """The weight from its sources, in NumPy if they are arrays of NumPy."""
    xp: Any = np if isinstance(values[0], np.ndarray) else jnp
    direction = values[0]
    if form.kind == "weight_norm":
        ndim = direction.ndim
        over = tuple(axis for axis in range(ndim) if axis not in form.features)
        length = xp.sqrt(xp.sum(direction**2, axis=over, keepdims=True))
        scale = values[1]
        if scale.ndim < ndim:  # Flax keeps it without the other axes
            scale = scale.reshape([n if a in form.features else 1
                                   for a, n in enumerate(direction.shape)])  # fmt: skip
        return direction * (scale / xp.maximum(length, EPSILON))
    rows = form.features == (0,)
    shape = (direction.shape[0], -1) if rows else (-1, direction.shape[-1])
    matrix = direction.reshape(shape)
    fixed = matrix if xp is np else jax.lax.stop_gradient(matrix)
    if rows:  # both vectors are there
        u, v = (value if xp is np else jax.lax.stop_gradient(value) for value in values[1:3])
    else:
        u = _unit(xp, fixed @ values[1].ravel())
        v = _unit(xp, fixed.T @ u)
        u, v = (u, v) if xp is np else jax.lax.stop_gradient((u, v))
    sigma = u.ravel() @ matrix @ v.ravel()
    return direction / xp.where(sigma == 0, 1, sigma)


def _unit(xp: Any, vector: Any) -> Any:
    return vector / xp.maximum(xp.sqrt(xp.sum(vector**2)), EPSILON)


def forms_by_name(shapes: Mapping[str, Shape]) -> dict[str, Form]:
    """The weights of a model that are reparametrized, by the path of their direction.

    Equinox has ``X/layer/weight`` beside ``X/g``, or beside ``X/uv_index/init/0`` and 1; Flax nnx
    ``X/layer_instance/kernel`` beside ``X/scales/('kernel',)`` or ``X/batch_stats/('kernel',
    'u')``; Linen ``Y/Dense_0/kernel`` and ``Y/WeightNorm_0/Dense_0/kernel/scale``, or in its
    statistics ``Y/SpectralNorm_0/Dense_0/kernel/u``.

    Args:
        shapes: Of all leaves.
    """
    forms: dict[str, Form] = {}
    for name, shape in shapes.items():
        forms |= _linen(name, shapes)
        stem, found, rest = _last_split(name, WRAPPED)
        if found and len(shape) >= 2:
            forms[name] = _nnx(stem, name, rest, shapes)
        stem, found, rest = _last_split(name, "layer")
        if found and len(shape) >= 2 and "/" not in rest and (form := _equinox(stem, name, shapes)):
            forms[name] = form
    return forms


def _last_split(name: str, part: str) -> tuple[str, bool, str]:
    """A path before and after its last part of a name, and whether it has one."""
    parts = name.split("/")
    if part not in parts[:-1]:
        return "", False, ""
    place = len(parts) - 1 - parts[::-1].index(part)
    return "".join(f"{parent}/" for parent in parts[:place]), True, "/".join(parts[place + 1 :])


def _equinox(stem: str, name: str, shapes: Mapping[str, Shape]) -> Form | None:
    shape, length = shapes[name], shapes.get(f"{stem}g", ())
    if len(length) == len(shape) and all(g in (1, n) for g, n in zip(length, shape, strict=True)):
        features = tuple(axis for axis, size in enumerate(length) if size > 1)
        return Form("weight_norm", (name, f"{stem}g"), features)
    vectors = tuple(f"{stem}uv_index/init/{number}" for number in range(2))
    if all(vector in shapes for vector in vectors):
        return Form("spectral_norm", (name, *vectors), (0,))
    return None


def _nnx(stem: str, name: str, rest: str, shapes: Mapping[str, Shape]) -> Form:
    keys = tuple(rest.split("/"))
    scale, u = f"{stem}scales/{keys}", f"{stem}batch_stats/{(*keys, 'u')}"
    if scale in shapes and (form := _weight_norm(name, scale, shapes)):
        return form
    if u in shapes and len(shapes[u]) == 2:
        return Form("spectral_norm", (name, u), (-1,))
    return Form("", (name,))


def _linen(name: str, shapes: Mapping[str, Shape]) -> dict[str, Form]:
    parts = name.split("/")
    if parts[-1] not in ("scale", "u"):
        return {}
    for place in range(len(parts) - 3):
        rest = "/".join(parts[place + 1 : -1])
        weight = "".join(f"{parent}/" for parent in parts[:place]) + rest
        weight = weight.replace("batch_stats/", "params/", 1) if parts[-1] == "u" else weight
        if len(shapes.get(weight, ())) < 2:
            continue
        if parts[-1] == "u":
            return {weight: Form("spectral_norm", (weight, name), (-1,))}
        if form := _weight_norm(weight, name, shapes):
            return {weight: form}
    return {}


def _weight_norm(weight: str, scale: str, shapes: Mapping[str, Shape]) -> Form | None:
    """Flax's scale has the axes of the features alone: the last, after those of a stack."""
    shape, length = shapes[weight], shapes[scale]
    features = (*range(len(length) - 1), len(shape) - 1) if length else ()
    if len(length) >= len(shape) or tuple(shape[axis] for axis in features) != length:
        return None
    return Form("weight_norm", (weight, scale), features)
