"""The best network of a given rank that truncation after training leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import spectral_reg as sr
from examples.claims import images, noise
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.compression import cut_to
from examples.claims.engine import Budget, Measures, Program, Task
from examples.claims.noise import LARGE, RATES, grid
from examples.claims.optimizers import adamw, l2, penalty

RANKS = (32, 16, 8)
NUCLEAR = adamw(before=penalty(sr.products_only(sr.nuclear_norm), mask=LARGE))
# For each the strengths around its best at 1/16 of the rank in the claim on compression.
STRENGTHS = {"l2": (3e-3, 1e-3, 1e-2, 3e-4), "nuclear": (1e-2, 3e-3, 3e-2, 1e-3)}


def _judged(data: Any, params: Any) -> Measures:
    measures = images.held_out_accuracies(data, params)
    for rank in RANKS:
        at_rank = images.held_out_accuracies(data, cut_to(params, rank, LARGE))
        measures |= {f"{split} rank {rank}": value for split, value in at_rank.items()}
    return measures


def _make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    return noise.make_task({**options, "judged": _judged}, folder)


CLAIM = Claim(
    title="The best network of rank 16 after truncation",
    source="nuclear-norm training (Alvarez and Salzmann 2017 and others)",
    published="ranks cut by a half or more at little loss of accuracy",
    statistic="test accuracy with both hidden layers cut to rank 16, whatever it was before",
    higher=True,
    make_task=_make_task,
    arms={
        "adam": Arm(Program(adamw()), RATES, text="Adam"),
        "l2": Arm(Program(adamw(before=l2)), grid(*STRENGTHS["l2"]), text="L2"),
        "nuclear": Arm(
            Program(NUCLEAR),
            grid(*STRENGTHS["nuclear"]),
            controls=("adam", "l2", "norms of nuclear"),
            text="nuclear norm",
        ),
        "norms of nuclear": Arm(
            Program(adamw(), norms_of=NUCLEAR),
            tuned_as="nuclear",
            text="Adam at the norms of nuclear",
        ),
    },
    tuning=lambda measured: measured["validation rank 16"],
    value=lambda measured: measured["test rank 16"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, {**noise.DIGITS, "hidden": (40, 40)}),
        "quick": Preset(Budget(6, 100), 3, 3, {**noise.DIGITS, "hidden": (40, 40)}),
        "small": Preset(Budget(10, 100), 6, 6, noise.SMALL),
        "full": Preset(Budget(30, 100), 8, 8, noise.MNIST),
    },
    also={
        "full rank": lambda measured: measured["test"],
        "rank 32": lambda measured: measured["test rank 32"],
        "rank 8": lambda measured: measured["test rank 8"],
    },
)
