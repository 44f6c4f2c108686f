"""Reproduces the phases of training on scikit-learn's digits, with the experiments' own code.

    python docs/tutorials/phases.py

Trains MiniAlexNet at four batch sizes, which takes some minutes on two cores. It needs the
repository: the networks and the training loop are those of `examples/`.
"""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import fitting
from examples.sweeping.presets import PRESETS
from examples.training import data
from examples.training.training import train

preset = PRESETS["smoke" if "--smoke" in sys.argv else "demo"]
baseline = preset.baseline
dataset = data.load("digits", train_size=baseline.train_size, test_size=baseline.test_size)
# The layer that the papers look at, and its shape.
layer, shape = "fc1", (147, 64) if baseline.network == "tiny" else (4096, 384)

print("batch  test accuracy  stable rank  MP soft rank  largest / edge  phase")
for batch_size in preset.batch_sizes:
    outcome = train(dataclasses.replace(baseline, batch_size=batch_size), dataset)
    eigenvalues = outcome.arrays[layer][-1]
    result = fitting.classify_phase(eigenvalues, shape)
    print(
        f"{batch_size:5} {outcome.metrics['final_test_accuracy']:14.3f}"
        f" {eigenvalues.sum() / eigenvalues.max():12.1f} {result.mp_soft_rank:13.2f}"
        f" {1 / result.mp_soft_rank_raw:15.2f}  {result.phase.name}",
        flush=True,
    )

print("\nWhy the last one is called that:")
for reason in result.reasons:
    print(f"  {reason}")
