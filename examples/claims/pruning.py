"""The best network of a given rank that truncation after training leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax

import spectral_reg as sr
from examples.claims import images, noise
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.compression import cut_to
from examples.claims.engine import Budget, Measures, Program, Settings, Task
from examples.claims.noise import LARGE, RATES, decays, grid
from examples.claims.optimizers import adamw, l2

RANKS = (32, 16, 8)


def _nuclear_decay(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
    del key
    # After Adam, which would scale the step towards zero of every singular value.
    return sr.add_spectral_penalty(
        sr.products_only(sr.nuclear_norm), settings["strength"], mask=LARGE
    )


NUCLEAR = adamw(decay=_nuclear_decay)


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
    source="Alvarez and Salzmann 2017 (compression-aware training by a low-rank regularizer)",
    published="much more compact, yet at least as effective, models than by compression afterwards",
    statistic="test accuracy with both hidden layers cut to rank 16, whatever it was before",
    higher=True,
    make_task=_make_task,
    arms={
        "adam": Arm(Program(adamw()), RATES, text="Adam"),
        "l2": Arm(
            Program(adamw(before=l2)), grid(1e-2, 3e-3, 3e-2, 1e-3, rates=(3e-3, 1e-3)), text="L2"
        ),
        "weight decay": Arm(Program(adamw()), decays(1.0, 0.3, 3.0, 0.1), text="AdamW"),
        "nuclear": Arm(
            Program(NUCLEAR),
            grid(1.0, 0.3, 3.0, 0.1, rates=(3e-3, 1e-3)),
            controls=("adam", "l2", "weight decay", "norms of nuclear"),
            text="a decay of all singular values by the same step",
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
        "small": Preset(Budget(8, 100), 6, 6, noise.SMALL),
        "full": Preset(Budget(30, 100), 8, 8, noise.MNIST),
    },
    also={
        "full rank": lambda measured: measured["test"],
        "rank 32": lambda measured: measured["test rank 32"],
        "rank 8": lambda measured: measured["test rank 8"],
    },
)
