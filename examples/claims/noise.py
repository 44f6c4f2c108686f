"""Images of which 40 % have a random label."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import spectral_reg as sr
from examples.claims import images
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Program, Task
from examples.claims.optimizers import adamw, l2, penalty

WARM = {"tracking": "warm"}
LARGE = sr.by_path("fc*/kernel", exclude=("fc3/*",))
SPECTRAL: dict[str, tuple[Any, dict[str, Any], tuple[float, ...]]] = {
    "nuclear": (sr.products_only(sr.nuclear_norm), {}, (1e-3, 1e-2, 1e-4, 3e-2)),
    "entropy": (sr.products_only(sr.matrix_entropy), {}, (1e-1, 1.0, 1e-2, 10.0)),
    "stable rank": (sr.log_stable_rank, WARM, (1e-1, 1.0, 1e-2, 10.0)),
    "spectral norm": (sr.spectral_norm, WARM, (1e-2, 1e-1, 1e-3, 1.0)),
    "tail": (sr.power_law_distance(3.0), {**WARM, "every": 5}, (1e-1, 1.0, 1e-2, 10.0)),
}


def grid(*strengths: float, rates: tuple[float, ...] = (1e-3, 3e-3)) -> tuple[dict, ...]:
    """Rates and strengths of a penalty, without decoupled decay."""
    return tuple(
        {"rate": rate, "decay": 0.0, "strength": strength}
        for rate, strength in itertools.product(rates, strengths)
    )


def decays(*numbers: float) -> tuple[dict[str, float], ...]:
    """Rates and decoupled decays."""
    return tuple(
        {"rate": rate, "decay": decay} for rate, decay in itertools.product((3e-3, 1e-3), numbers)
    )


RATES = tuple(
    {"rate": 1e-3 * 2.0**k, "decay": 0.0, "strength": 0.0} for k in (0, 1, -1, 2, -2, 3, -3, -4)
)


def arms_of(
    names: tuple[str, ...], l2_strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-4, 3e-3)
) -> dict[str, Arm]:
    """Adam, L2, AdamW, each of these penalties, and for each a run at its norms."""
    arms = {
        "adam": Arm(Program(adamw()), RATES, text="Adam"),
        "l2": Arm(Program(adamw(before=l2)), grid(*l2_strengths), text="L2"),
        "weight decay": Arm(Program(adamw()), decays(1.0, 0.3, 3.0, 0.1), text="AdamW"),
    }
    for name in names:
        metric, options, strengths = SPECTRAL[name]
        before = penalty(metric, mask=LARGE, **options)
        controls = ("adam", "l2", "weight decay", f"norms of {name}")
        arms[name] = Arm(
            Program(adamw(before=before)), grid(*strengths), controls=controls, text=name
        )
        program = Program(adamw(), norms_of=arms[name].program.optimizer)
        arms[f"norms of {name}"] = Arm(program, tuned_as=name, text=f"Adam at the norms of {name}")
    return arms


def make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    """Of the options of a preset: those of the data, and those of the task."""
    data = images.read(
        options["data"], folder, train=options["train"], held_out=options["held_out"]
    )
    chosen = {k: v for k, v in options.items() if k not in ("data", "train", "held_out")}
    return images.classification(data, **chosen)


DIGITS = {"data": "digits", "train": 800, "held_out": 250, "hidden": (32, 32), "batch_size": 32}
SMALL = {"data": "mnist", "train": 2000, "held_out": 4000, "hidden": (64, 64), "batch_size": 64}
MNIST = {"data": "mnist", "train": 10_000, "held_out": 10_000}

CLAIM = Claim(
    title="Random labels among the training labels",
    source="a question of ours; Martin and Mahoney 2021 look at the spectra under random labels",
    published="no gain",
    statistic="accuracy on clean test images, after the last step; tuned on clean ones",
    higher=True,
    make_task=make_task,
    arms=arms_of(tuple(SPECTRAL)),
    tuning=lambda measured: measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, {**DIGITS, "noise": 0.4}),
        "quick": Preset(Budget(6, 100), 3, 3, {**DIGITS, "noise": 0.4}),
        "small": Preset(Budget(8, 100), 6, 6, {**SMALL, "noise": 0.4}),
        "full": Preset(Budget(30, 100), 8, 8, {**MNIST, "noise": 0.4}),
    },
    also={"fits its noisy labels": lambda measured: measured["train"]},
)
