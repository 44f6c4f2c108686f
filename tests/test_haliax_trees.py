"""Models of Haliax, whose axes have names: they are read by these, whatever their order."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
from model_trees import DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCABULARY, WIDTH, normal

import fitting
import spectral_reg as sr

QUERY = (WIDTH, HEADS * DIM)


def haliax_like(name, module, fields):
    """A class of the name, place and fields of one of Haliax, which is not installed here."""
    return type(name, (eqx.Module,), {
        "__annotations__": dict.fromkeys(fields, object), "__module__": module,
        **{f: eqx.field(static=True) for f in fields if f[0].isupper()},
    })  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Axis:
    name: str
    size: int


@jax.tree_util.register_pytree_node_class
class NamedArray:
    """As in Haliax: registered without keys, its axes beside the array."""

    def __init__(self, array, axes):
        self.array, self.axes = array, axes

    def tree_flatten(self):
        return (self.array,), self.axes

    @classmethod
    def tree_unflatten(cls, axes, children):
        return cls(children[0], axes)


Linear = haliax_like("Linear", "haliax.nn.linear", ["weight", "In", "Out"])
Embedding = haliax_like("Embedding", "haliax.nn.embedding", ["weight", "Vocab", "Embed"])
Norm = haliax_like("LlamaRMSNorm", "levanter.models.llama", ["weight"])


def levanter():
    """A Llama of Levanter, whose blocks Haliax has stacked: every axis has a name."""
    layers, embed, heads, dim = (
        Axis("layers", LAYERS), Axis("embed", WIDTH), Axis("heads", HEADS), Axis("head_size", DIM),
    )  # fmt: skip
    kv_heads, group = Axis("kv_heads", KV_HEADS), Axis("q_heads_per_group", HEADS // KV_HEADS)
    hidden, vocabulary = Axis("mlp", HIDDEN), Axis("vocab", VOCABULARY)

    def array(*axes):
        return NamedArray(normal(*(axis.size for axis in axes)), axes)

    def linear(into, out_of):
        into, out_of = (side if isinstance(side, tuple) else (side,) for side in (into, out_of))
        return Linear(array(layers, *out_of, *into), into, out_of)

    return {
        "embeddings": {"token_embeddings": Embedding(array(vocabulary, embed), vocabulary, embed)},
        "transformer": {"layers": {"stacked": {
            "self_attn": {
                "q_proj": linear(embed, (kv_heads, group, dim)),
                "k_proj": linear(embed, (kv_heads, dim)),
                "o_proj": linear((heads, dim), embed),
            },
            "mlp": {"gate_proj": linear(embed, hidden), "down_proj": linear(hidden, embed)},
            "input_layernorm": Norm(array(layers, embed)),
        }}},
        "lm_head": Linear(array(vocabulary, embed), embed, vocabulary),
    }  # fmt: skip


def test_levanter_and_haliax_name_every_axis():
    model = levanter()
    block = "transformer/layers/stacked"
    expected = {
        "embeddings/token_embeddings/weight/0": (VOCABULARY, WIDTH),
        "lm_head/weight/0": (WIDTH, VOCABULARY),
        f"{block}/mlp/down_proj/weight/0": (LAYERS, HIDDEN, WIDTH),
        f"{block}/mlp/gate_proj/weight/0": (LAYERS, WIDTH, HIDDEN),
        f"{block}/self_attn/k_proj/weight/0": (LAYERS, WIDTH, KV_HEADS * DIM),
        f"{block}/self_attn/o_proj/weight/0": (LAYERS, HEADS * DIM, WIDTH),
        f"{block}/self_attn/q_proj/weight/0": (LAYERS, *QUERY),
    }
    matrices = sr.layer_matrices(model)
    assert {name: W.shape for name, W in matrices.items()} == expected
    stack = model["transformer"]["layers"]["stacked"]["self_attn"]
    query = stack["q_proj"].weight.array
    expected = query.reshape(LAYERS, HEADS * DIM, WIDTH).transpose(0, 2, 1)
    np.testing.assert_array_equal(matrices[f"{block}/self_attn/q_proj/weight/0"], expected)
    for number in range(LAYERS):
        out = stack["o_proj"].weight.array[number].reshape(WIDTH, HEADS * DIM).T
        np.testing.assert_array_equal(matrices[f"{block}/self_attn/o_proj/weight/0"][number], out)
    names = set(fitting.evaluate(model, progress=False).layers["name"])
    assert names == set(matrices)
