"""Trees of parameters with the names and shapes of public models, layer by layer and stacked."""

import jax
import numpy as np
from draws import RNG

WIDTH, HEADS, KV_HEADS, DIM, HIDDEN, EXPERTS, VOCABULARY, LAYERS = 32, 4, 2, 8, 48, 3, 40, 5


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def nested(flat):
    """A nested dict from one of paths."""
    tree = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def stacked(layers, axis):
    """What a scan over layers makes of their parameters; vectors go as far as they have axes."""
    return jax.tree.map(lambda *leaves: np.stack(leaves, min(axis, leaves[0].ndim)), *layers)


def maxtext_attention():
    return {
        "pre_self_attention_layer_norm/scale": normal(WIDTH),
        "self_attention/query/kernel": normal(WIDTH, HEADS, DIM),
        "self_attention/key/kernel": normal(WIDTH, KV_HEADS, DIM),
        "self_attention/value/kernel": normal(WIDTH, KV_HEADS, DIM),
        "self_attention/out/kernel": normal(HEADS, DIM, WIDTH),
        "post_self_attention_layer_norm/scale": normal(WIDTH),
    }


def maxtext_dense_layer():
    """MaxText's Llama."""
    return nested(
        maxtext_attention()
        | {
            "mlp/wi_0/kernel": normal(WIDTH, HIDDEN),
            "mlp/wi_1/kernel": normal(WIDTH, HIDDEN),
            "mlp/wo/kernel": normal(HIDDEN, WIDTH),
        }
    )


def maxtext_moe_layer():
    """MaxText's Mixtral."""
    return nested(
        maxtext_attention()
        | {
            "MoeBlock_0/gate/kernel": normal(WIDTH, EXPERTS),
            "MoeBlock_0/wi_0": normal(EXPERTS, WIDTH, HIDDEN),
            "MoeBlock_0/wi_1": normal(EXPERTS, WIDTH, HIDDEN),
            "MoeBlock_0/wo": normal(EXPERTS, HIDDEN, WIDTH),
        }
    )


def maxtext(layer, axis=1):
    """A decoder of MaxText, scanned (``param_scan_axis``) and not (``scan_layers=False``)."""
    layers = [layer() for _ in range(LAYERS)]
    outside = {
        "token_embedder": {"embedding": normal(VOCABULARY, WIDTH)},
        "decoder": {
            "decoder_norm": {"scale": normal(WIDTH)},
            "logits_dense": {"kernel": normal(WIDTH, VOCABULARY)},
        },
    }
    scanned = {"layers": stacked(layers, axis)}
    unscanned = {f"layers_{number}": layer for number, layer in enumerate(layers)}
    return tuple(
        {"params": outside | {"decoder": outside["decoder"] | inside}}
        for inside in (scanned, unscanned)
    )


def kauldron_block():
    """The block of a vision transformer of Kauldron."""
    heads = {f"attention/{p}/kernel": normal(WIDTH, HEADS, DIM) for p in ("query", "key", "value")}
    biases = {f"attention/{p}/bias": normal(HEADS, DIM) for p in ("query", "key", "value")}
    return nested(
        heads
        | biases
        | {
            "attention/query_norm/scale": normal(DIM),
            "attention/key_norm/scale": normal(DIM),
            "attention/out/kernel": normal(HEADS, DIM, WIDTH),
            "attention/out/bias": normal(WIDTH),
            "attention_norm/scale": normal(WIDTH),
            "attention_norm/bias": normal(WIDTH),
            "mlp/dense_in/kernel": normal(WIDTH, HIDDEN),
            "mlp/dense_in/bias": normal(HIDDEN),
            "mlp/dense_out/kernel": normal(HIDDEN, WIDTH),
            "mlp/dense_out/bias": normal(WIDTH),
            "mlp_norm/scale": normal(WIDTH),
            "mlp_norm/bias": normal(WIDTH),
        }
    )


def gemma_block():
    """The block of Gemma, as Flax has it."""
    return nested(
        {
            "attn/q_einsum/w": normal(HEADS, WIDTH, DIM),
            "attn/kv_einsum/w": normal(2, KV_HEADS, WIDTH, DIM),
            "attn/attn_vec_einsum/w": normal(HEADS, DIM, WIDTH),
            "mlp/gating_einsum": normal(2, WIDTH, HIDDEN),
            "mlp/linear": normal(HIDDEN, WIDTH),
            "pre_attention_norm/scale": normal(WIDTH),
            "pre_ffw_norm/scale": normal(WIDTH),
        }
    )


def haiku_block():
    """The modules of a transformer block in Haiku, whose linear layers have two axes each."""
    modules = {
        "multi_head_attention/query": (WIDTH, HEADS * DIM),
        "multi_head_attention/key": (WIDTH, HEADS * DIM),
        "multi_head_attention/value": (WIDTH, HEADS * DIM),
        "multi_head_attention/linear": (HEADS * DIM, WIDTH),
        "linear": (WIDTH, HIDDEN),
        "linear_1": (HIDDEN, WIDTH),
    }
    linear = {name: {"w": normal(*shape), "b": normal(shape[1])} for name, shape in modules.items()}
    return linear | {"layer_norm": {"scale": normal(WIDTH), "offset": normal(WIDTH)}}


def haiku():
    """Blocks as ``hk.experimental.layer_stack`` names and stacks them, and as modules in turn."""
    blocks = [haiku_block() for _ in range(LAYERS)]
    stack = "transformer/__layer_stack_no_per_layer/block"
    scanned = {f"{stack}/{module}": leaves for module, leaves in stacked(blocks, 0).items()}
    unscanned = {
        f"transformer/block_{number}/{module}": leaves
        for number, block in enumerate(blocks)
        for module, leaves in block.items()
    }
    return scanned, unscanned
