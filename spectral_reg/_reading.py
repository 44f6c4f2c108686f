"""How a tree of parameters is read: which leaves are matrices, and of which axes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ._axes import MatrixAxes, Shape, among, arranged_shape, part_names
from ._axes_argument import Axes, ResolvedAxes, Stacked, Told, partition_names, read_axes, without
from ._default_axes import Known, default_layout
from ._leaf_names import IN_A_NORM, MATRIX_NAMES, VECTOR, reason_to_leave_out
from ._live_layers import known_layers
from ._reparametrized import Form, Reparametrized, forms_by_name
from ._stacked_axes import Doubt, branches, doubt, stacked_first
from ._trees import Mask, PathMask, PyTree, masked_names, named_leaves

AS_TOLD = "as axes says"
LEFT_OUT = "left out by axes"
NOT_KNOWN = "a layer around it makes the weight of this and of what is not in the tree"
NOT_SELECTED = "not selected by the mask"


FORMS = {"weight_norm": "with its weight norm", "spectral_norm": "with its spectral norm"}


class LeafReading(NamedTuple):
    """One leaf, as it is read.

    Attributes:
        shape: Of the leaf.
        kind: Of the weight, such as dense, conv, experts, qkv or lstm.
        axes: Of its matrices; None where it has too few.
        rule: What decides the axes.
        reason: Why it is not among the matrices of a model unless it is asked for; empty if it is.
        doubt: What speaks against its axes, if anything does.
        form: How the weight is made, where this is not it but what a layer makes it of.
    """

    shape: Shape
    kind: str
    axes: MatrixAxes | None
    rule: str
    reason: str
    doubt: Doubt | None = None
    form: Form | None = None


def read_leaves(
    shapes: Mapping[str, Shape],
    *,
    known: Mapping[str, Known],
    told: Mapping[str, Told],
) -> dict[str, LeafReading]:
    """How every leaf is read, from names and shapes, what its source says and what the user says.

    Args:
        shapes: By path.
        known: What live modules or files say of some of the leaves.
        told: What the argument ``axes`` says of some of the leaves.
    """
    stacked = {name: spec for name, spec in told.items() if isinstance(spec, Stacked)}
    reduced = {
        name: without(shape, stacked[name], name) if name in stacked else (shape, None)
        for name, shape in shapes.items()
    }
    own = {name: shape for name, (shape, _) in reduced.items()}
    forms, around = forms_by_name(shapes), branches(own)
    parts = {part: name for name, form in forms.items() for part in form.sources[1:]}
    readings = {}
    for name, shape in shapes.items():
        spec = told.get(name)
        inside = known.get(name, Known())
        reason = _reason(name, len(own[name]), inside)
        form = forms.get(name, Form("", (name,)) if inside.wrapped else None)
        if form and not form.kind:
            reason = reason or NOT_KNOWN
        elif name in parts:
            reason = f"a part of {parts[name]}"
        if isinstance(spec, MatrixAxes):
            kind = _kind(inside.kind, spec, shape)
            readings[name] = LeafReading(shape, kind, spec, AS_TOLD, reason, form=form)
            continue
        if len(own[name]) < 2:
            readings[name] = LeafReading(shape, "", None, "", reason)
            continue
        layout = default_layout(name, own, inside)
        settled = name in told or inside.axes is not None
        if not settled:
            layout = stacked_first(name, own, layout, around)
        against = None if settled else doubt(name, own, layout, around)
        axes, left = layout.axes, reduced[name][1]
        if left is not None:
            axes = among(axes, left, len(shape))
        if name in told and spec is None:
            reason = LEFT_OUT
        kind = _kind(layout.kind, axes, shape)
        rule = f"{layout.rule}, {FORMS[form.kind]}" if form and form.kind else layout.rule
        readings[name] = LeafReading(shape, kind, axes, rule, reason, against, form)
    return readings


def _reason(name: str, ndim: int, known: Known) -> str:
    if ndim < 2:
        return VECTOR
    if known.kind == "norm":
        return IN_A_NORM
    # Tables of biases by distance are embeddings too: there the name decides.
    named = known.kind not in ("", "embedding") and name.split("/")[-1] in MATRIX_NAMES
    if named or known.axes or known.kind.startswith("lora"):
        return ""
    return reason_to_leave_out(name, ndim)


def _kind(kind: str, axes: MatrixAxes, shape: Shape) -> str:
    if kind not in ("", "dense"):
        return kind
    named = [part if isinstance(part, tuple) else (part,) for part in axes[:3]]
    if named[2]:
        return "conv"
    return "stack" if sum(map(len, named)) < len(shape) else "dense"


class Selection(NamedTuple):
    """The leaves whose matrices are asked for.

    Attributes:
        leaves: By path.
        axes: Of the matrices of each.
    """

    leaves: dict[str, Any]
    axes: ResolvedAxes


def select_layers(params: PyTree, mask: Mask, axes: Axes) -> Selection:
    """The leaves that a mask selects, or that hold a layer's matrices, with the axes of these.

    Raises:
        ValueError: If nothing is selected, the mask or the axes do not fit, a selected leaf is no
            matrix, or its axes are in doubt.
        TypeError: As for :func:`layer_matrices`.
    """
    leaves = named_leaves(params)
    readings, selected = read_tree(params, leaves, mask, axes)
    if not selected:
        rule = "the mask selects nothing"
        if mask is None:
            rule = "no leaf of two or more axes has the name of a weight, such as kernel"
        raise ValueError(
            f"{rule}; expected some of the paths {[*leaves]}; explain_layers(params) says why not "
            "for each"
        )
    for name in selected:
        reading = readings[name]
        if reading.axes is None:
            raise ValueError(
                f"the mask selects {name!r} of shape {reading.shape}; expected matrices [..., "
                "rows, cols]; leave biases and scales out of the mask"
            )
        if reading.doubt:
            raise ValueError(reading.doubt.reason)
        form = None if isinstance(leaves[name], Reparametrized) else reading.form
        if form and not form.kind:
            raise ValueError(
                f"{name!r} is what a weight or spectral normalization makes its weight of, and the "
                "rest of that is not in the tree; expected the whole model, with its state, or a "
                "mask that leaves it out"
            )
        if form:
            leaves[name] = Reparametrized({s: leaves[s] for s in form.sources}, form)
    return Selection(
        {name: leaves[name] for name in selected},
        ResolvedAxes({name: readings[name].axes or MatrixAxes() for name in selected}),
    )


def read_tree(
    params: PyTree, leaves: Mapping[str, Any], mask: Mask, axes: Axes
) -> tuple[dict[str, LeafReading], list[str]]:
    """How every leaf of a tree is read, and the paths of those that are selected, in its order."""
    shapes = {name: tuple(getattr(leaf, "shape", ())) for name, leaf in leaves.items()}
    argument = read_axes(axes, params, [*leaves])
    told = {**partition_names(params), **argument.of(leaves)}
    readings = read_leaves(shapes, known=known_layers(params, shapes), told=told)
    reasons = {name: reading.reason for name, reading in readings.items() if reading.axes}
    if isinstance(mask, PathMask):
        chosen = mask.layers([*leaves], reasons)
    elif mask is not None:
        chosen = masked_names(mask, params)
    else:
        chosen = {name for name, reason in reasons.items() if not reason}
        chosen |= argument.asked_for(reasons)
    return readings, [n for n in leaves if n in chosen and readings[n].reason != LEFT_OUT]


class LayerReading(NamedTuple):
    """How a leaf is read, as :func:`explain_layers` lists it.

    Attributes:
        shape: Of the leaf.
        matrices: The shape of what :func:`layer_matrices` makes of it, ``[*batch, rows, cols]``;
            empty where it is left out.
        kind: Such as dense, conv, stack, experts, qkv or lstm; empty where it is left out.
        parts: What lies side by side in it, such as query, key and value, each a matrix of the
            batch; empty where nothing does.
        rule: What decides its axes, or why it is left out.
    """

    shape: tuple[int, ...]
    matrices: tuple[int, ...]
    kind: str
    parts: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        made = f"{[*self.matrices]}, {self.kind}: " if self.matrices else "left out: "
        return f"{[*self.shape]} -> {made}{self.rule}"


def explain_layers(
    params: PyTree, *, mask: Mask = None, axes: Axes = None
) -> dict[str, LayerReading]:
    """Which leaves of a model are its weight matrices, which axes make them, and why.

    Args:
        params: The parameters, as for :func:`layer_matrices`.
        mask: Which leaves, as for :func:`layer_matrices`.
        axes: Which axes of a weight make its matrix, as for :func:`layer_matrices`.

    Returns:
        Path to reading, of every leaf of two or more axes, in the order of the tree: those that the
        functions of this library take, and those that they leave out. A convolution is shown as
        ``conv="slices"`` has it. An axis that may be wrong, for which :func:`layer_matrices`
        raises, is a rule that begins with "in doubt".

    Raises:
        ValueError: If the mask or the axes do not fit the tree.
        TypeError: As for :func:`layer_matrices`.

    Example:
        >>> import jax.numpy as jnp, spectral_reg as sr
        >>> params = {
        ...     "attn": {"qkv": {"kernel": jnp.ones((64, 192))}},
        ...     "norm1": {"scale": jnp.ones((12, 64)), "linear": {"kernel": jnp.ones((64, 384))}},
        ... }
        >>> for path, reading in sr.explain_layers(params).items():
        ...     print(path, reading)
        attn/qkv/kernel [64, 192] -> [3, 64, 64], qkv: query, key and value side by side
        norm1/linear/kernel [64, 384] -> [64, 384], dense: [rows, cols]
        norm1/scale [12, 64] -> left out: the scale of a normalization

    Cost: none; shapes are all it needs, such as ``jax.eval_shape`` gives.
    """
    leaves = named_leaves(params)
    readings, selected = read_tree(params, leaves, mask, axes)
    explained = {}
    for name, reading in readings.items():
        if len(reading.shape) < 2:
            continue
        if reading.axes is None or name not in selected:
            reason = reading.reason or NOT_SELECTED
            explained[name] = LayerReading(reading.shape, (), "", (), reason)
            continue
        shape = arranged_shape(name, reading.shape, reading.axes)
        rule = f"in doubt: {reading.doubt.reason}" if reading.doubt else reading.rule
        parts = part_names(reading.axes)
        explained[name] = LayerReading(reading.shape, shape, reading.kind, parts, rule)
    return explained
