"""Which axes of a weight make its matrix, by the names and shapes of a model alone."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from ._axes import MatrixAxes, Shape
from ._fused import FUSED, fused_gates, fused_projection
from ._leaf_names import ATTENTION_WORDS, EXPERT_WORDS, has_word, parent_of, role_of

Shapes = Mapping[str, Shape]

PROJECTION = re.compile(
    r"(to_)?(query|key|value|q|k|v)(_proj|_projection|_dense)?|w(q|k|v|kv)(_b)?"
)
QUERIES = ("query", "query_proj", "query_projection", "query_dense", "q", "q_proj", "to_q", "wq",
           "wq_b")  # fmt: skip
OUTPUT = re.compile(
    r"(to_)?(out|output|o)(_proj|_projection|_dense)?|wo|(attention|attn)_out(put)?"
)
OUTPUTS = (
    "out", "out_proj", "o", "o_proj", "output", "output_proj", "to_out", "wo", "attn_out", "proj",
    "c_proj", "dense", "linear", "attention_out", "attention_output", "attn_output",
)  # fmt: skip
# Of Gemma: [..., heads, d, dim] and [..., heads, dim, d].
INPUT_EINSUM, OUTPUT_EINSUM = (
    re.compile(rf"({names})_einsum(_\d+)?") for names in ("q|k|v|kv|qkv", "attn_vec")
)
# PyTorch's, [out, in], under names of their own.
TORCH_MATRICES = re.compile(
    r"in_proj_weight|[qkv]_proj_weight|weight_(ih|hh|hr)(_l\d+)?(_reverse)?"
)


class Known(NamedTuple):
    """What a source says of a leaf beyond its name and shape.

    Attributes:
        kind: Of the layer: dense, conv, conv_transpose, bilinear, embedding, lstm, gru, norm or
            lora; empty where it is not known.
        groups: Of a grouped convolution.
        axes: Of its matrix.
        wrapped: Whether the layer stands in another that makes its weight of this leaf and more.
    """

    kind: str = ""
    groups: int = 1
    axes: MatrixAxes | None = None
    wrapped: bool = False


class Layout(NamedTuple):
    """How a weight is laid out: its kind, the axes of its matrix, and the rule that says so."""

    kind: str
    axes: MatrixAxes
    rule: str


def default_layout(name: str, shapes: Shapes, known: Known | None = None) -> Layout:
    """How a leaf of two or more axes is laid out, from its name, its shape and its neighbours."""
    known = known or Known()
    layout = _axes_of(name, shapes, known)
    shape, axes = shapes[name], layout.axes
    _, rows, cols = sizes(shape, axes)
    if axes.groups > 1 or axes.parts != 1:
        return layout
    has_gates = layout.kind in ("", "dense", "lstm", "gru") or layout.kind.startswith("conv")
    gates = fused_gates(name, cols, shapes, known.kind)
    if has_gates and gates.kind:
        rule = f"the {len(gates.parts)} gates side by side" if gates.parts else layout.rule
        return Layout(gates.kind, axes._replace(parts=gates.parts or 1), rule)
    plain = layout.kind in ("", "dense") and not (axes.window or isinstance(axes.cols, tuple))
    fused = fused_projection(name, (rows, cols), shapes)
    if not (plain and fused.kind):
        return layout
    if not fused.parts:
        return Layout(fused.kind, axes, "several in one, and nothing says where to cut")
    if fused.turned:
        axes = axes._replace(rows=axes.cols, cols=axes.rows)
    rule = f"{', '.join(fused.parts[:-1])} and {fused.parts[-1]} side by side"
    return Layout(fused.kind, axes._replace(parts=fused.parts), rule)


def _axes_of(name: str, shapes: Shapes, known: Known) -> Layout:
    shape = shapes[name]
    ndim = len(shape)
    *parents, last = ["", *role_of(name)]
    layer, kind = parents[-1], known.kind
    if kind == "dense" and (fused := _fused_axes(layer, shape)):
        return fused
    if known.axes or kind == "bilinear":
        return Layout(kind, known.axes or MatrixAxes(), "the layer's own type")
    if last == "depthwise_kernel":
        window = tuple(range(ndim - 2))
        axes = MatrixAxes(rows=window, cols=(-2, -1))
        return Layout("", axes, "depthwise [*window, in, multiplier]")
    if TORCH_MATRICES.fullmatch(last):
        return Layout(kind, MatrixAxes(rows=-1, cols=-2), "[..., out, in]")
    if last == "weight_orig":
        axes = MatrixAxes(rows=1, cols=0, window=tuple(range(2, ndim)))
        return Layout(kind or ("conv" if axes.window else ""), axes, "[out, in, *window]")
    if kind.startswith("conv"):
        return _convolution(shape, known)
    if ndim == 2:
        embedding = "embedding" in last and not kind
        return Layout("embedding" if embedding else kind, MatrixAxes(), "[rows, cols]")
    return (
        _heads(name, parents, last, shapes)
        or _fused_axes(layer, shape)
        or _experts([*parents, last])
        or (_by_bias(name, shapes) if not kind else None)
        or _unknown(parents, last, ndim, known)
    )


def _experts(parts: list[str]) -> Layout | None:
    if not has_word(parts, EXPERT_WORDS):
        return None
    return Layout("experts", MatrixAxes(), "experts [..., in, out]")


def _by_bias(name: str, shapes: Shapes) -> Layout | None:
    """A kernel of Flax by the bias beside it, which has the axes of the columns.

    That of stacked layers has those of the stack too, before its last.
    """
    layer, _, last = name.rpartition("/")
    shape, bias = shapes[name], shapes.get(f"{layer}/bias".removeprefix("/"), ())
    num = len(bias)
    if last != "kernel" or not 0 < num < len(shape) or shape[-num:] != bias:
        return None
    if num == 1:
        axes = MatrixAxes(window=tuple(range(len(shape) - 2)))
        return Layout("conv", axes, "convolution [*window, in, out], as its bias tells")
    rows = tuple(range(len(shape) - num))
    cols = tuple(range(len(shape) - num, len(shape)))
    return Layout("", MatrixAxes(rows, cols), "[in, *out], as its bias tells")


def _convolution(shape: Shape, known: Known) -> Layout:
    window = tuple(range(len(shape) - 2))
    if known.kind == "conv_transpose" and known.groups > 1:
        # [*window, in, out / groups]: here the groups share out the inputs.
        axes = MatrixAxes(rows=-1, cols=-2, window=window, groups=known.groups)
    else:
        # Of a depthwise kernel the groups would be columns; all of it is one matrix.
        groups = known.groups if shape[-2] > 1 else 1
        axes = MatrixAxes(window=window, groups=groups)
    return Layout(known.kind, axes, "convolution [*window, in, out], the layer's own type")


def _unknown(parents: list[str], last: str, ndim: int, known: Known) -> Layout:
    kind = known.kind
    named = "conv" in parent_of(parents).lower()
    windowed = ndim >= 4 and (last in ("weight", "w") or last.endswith("kernel"))
    if (named or windowed) and kind != "dense":
        if last == "weight":
            axes = MatrixAxes(rows=1, cols=0, window=tuple(range(2, ndim)))
            return Layout("conv", axes, "convolution [out, in, *window]")
        axes = MatrixAxes(window=tuple(range(ndim - 2)))
        return Layout("conv", axes, "convolution [*window, in, out]")
    order = "out, in" if last == "weight" else "in, out"
    return Layout(kind, MatrixAxes(), f"a stack [..., {order}]")


def _heads(name: str, parents: list[str], last: str, shapes: Shapes) -> Layout | None:
    """The projections of an attention, whose heads have axes of their own."""
    shape, layer = shapes[name], parents[-1]
    into = "attention heads [..., d, heads, dim]"
    out_of = "attention heads [..., heads, dim, d]"
    if INPUT_EINSUM.fullmatch(layer) and last in ("w", "kernel"):
        return Layout("", MatrixAxes(-2, (-3, -1)), "attention heads [..., heads, d, dim]")
    if OUTPUT_EINSUM.fullmatch(layer) and last in ("w", "kernel"):
        return Layout("", MatrixAxes((-3, -2), -1), out_of)
    if last in ("q", "k", "v", "o", "r") and has_word([layer], ATTENTION_WORDS):
        return Layout("", MatrixAxes(-3, (-2, -1)), into)
    if last != "kernel":
        return None  # Haiku's and PyTorch's have no axes of heads

    def beside(layers: tuple[str, ...]) -> Shape:
        names = ("/".join((*parents[1:-1], other, last)) for other in layers)
        return next((shapes[other] for other in names if other in shapes), ())

    if PROJECTION.fullmatch(layer) and _has_heads(beside(QUERIES) or shape, beside(OUTPUTS)):
        return Layout("", MatrixAxes(-3, (-2, -1)), into)
    if layer == "attention_output":
        return Layout("", MatrixAxes((-3, -2), -1), out_of)
    if OUTPUT.fullmatch(layer):
        query = beside(QUERIES)
        alone = not query and len(shape) >= 4
        in_attention = layer.endswith("_proj") or has_word(parents[:-1], ATTENTION_WORDS)
        if _has_heads(query, shape) or (alone and in_attention):
            return Layout("", MatrixAxes((-3, -2), -1), out_of)
    return None


def _has_heads(query: Shape, out: Shape) -> bool:
    """Whether a query ``[..., d, heads, dim]`` has an out ``[..., heads, dim, d]``, or none.

    The heads of the values, which go into the out, may be of another width.
    """
    # A stacked dense layer [layers, d, d] has three axes too, and so has its out, but other ones.
    if len(query) < 3 or query[-3] < query[-2]:
        return False
    return len(out) < 3 or out[-3] == query[-2]


def _fused_axes(layer: str, shape: Shape) -> Layout | None:
    """Query, key and value in one kernel along an axis of their own."""
    number = FUSED.get(layer, 0) if len(shape) > 2 else 0
    names = "qkv" if number == 3 else "kv"
    if number and len(shape) >= 4 and shape[-3] == number:
        return Layout(names, MatrixAxes(-4, (-2, -1)), f"{names} [..., d, {number}, heads, dim]")
    if number and len(shape) >= 4 and shape[-4] == number:
        return Layout(names, MatrixAxes(-3, (-2, -1)), f"{names} [..., {number}, d, heads, dim]")
    if number and shape[-2] == number:
        return Layout(names, MatrixAxes(-3, -1), f"{names} [..., d, {number}, out]")
    return None


def sizes(shape: Shape, axes: MatrixAxes) -> tuple[int, int, int]:
    """How many matrices there are, with their rows and columns."""
    rows, cols = (_size(shape, part) for part in (axes.rows, axes.cols))
    return math.prod(shape) // max(1, rows * cols), rows, cols


def _size(shape: Shape, axes: int | tuple[int, ...]) -> int:
    return math.prod(shape[axis] for axis in (axes if isinstance(axes, tuple) else (axes,)))
