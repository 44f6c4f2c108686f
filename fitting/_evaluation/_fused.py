"""Fused attention that only a model's configuration can cut."""

from collections.abc import Mapping
from typing import Any

from spectral_reg._fused import PARTS

from ._unit import Split

# Architectures whose query_key_value holds the three of one head after the other.
BY_HEAD = ("bloom", "gpt_neox", "gpt_neox_japanese")


def split_by_head(name: str, shape: tuple[int, int], config: Mapping[str, Any]) -> Split | None:
    """The parts of a query_key_value whose heads take turns; None where nothing says so.

    Args:
        name: The path.
        shape: Rows and columns of its matrix, whichever of them the input is.
        config: The model's ``config.json``.
    """
    features, width = min(shape), max(shape)
    num_heads = config.get("num_attention_heads") or config.get("n_head")
    named = "query_key_value" in name.split("/")[-2:]
    if not (named and config.get("model_type") in BY_HEAD and num_heads):
        return None
    if width != 3 * features or features % num_heads:
        return None
    return Split(PARTS[3], -1 if shape[1] == width else -2, num_heads)
