"""All claims by name, in the order of their value."""

from examples.claims import (
    compression,
    failures,
    few_images,
    grokking,
    layer_rates,
    muon,
    noise,
    plasticity,
    pruning,
    raised,
    robustness,
    tails,
)

CLAIMS = {
    "layer-rates": layer_rates.ON_TEXT,
    "layer-rates-images": layer_rates.ON_IMAGES,
    "failures": failures.CLAIM,
    "plasticity": plasticity.CLAIM,
    "compression": compression.ON_IMAGES,
    "pruning": pruning.CLAIM,
    "compression-text": compression.ON_TEXT,
    "power-law": tails.CLAIM,
    "label-noise": noise.CLAIM,
    "grokking": grokking.CLAIM,
    "robustness": robustness.ATTACKED,
    "robustness-proved": robustness.PROVED,
    "few-images": few_images.CLAIM,
    "muon": muon.CLAIM,
    "raised": raised.CLAIM,
}
