"""How soon sums modulo a prime are generalized, long after those shown are known by heart."""

import itertools
from typing import Any

import numpy as np

import spectral_reg as sr
from examples.claims import modular
from examples.claims.claim import Arm, Claim, Measured, Preset
from examples.claims.engine import Budget, Program
from examples.claims.optimizers import adamw, constant, penalty

GENERALIZED = 0.95
RATES = (1e-3, 3e-3)
WARM = {"tracking": "warm"}


def _strong(*strengths: float) -> tuple[dict[str, float], ...]:
    return tuple(
        {"rate": rate, "decay": 0.0, "strength": strength}
        for rate, strength in itertools.product(RATES, strengths)
    )


def _decays(*decays: float) -> tuple[dict[str, float], ...]:
    return tuple({"rate": rate, "decay": decay} for rate, decay in itertools.product(RATES, decays))


def _arm(metric: Any, strengths: tuple[float, ...], text: str, **options: Any) -> Arm:
    program = Program(adamw(schedule=constant, before=penalty(metric, **options)))
    return Arm(program, _strong(*strengths), controls=("adamw",), text=text)


def _steps(measured: Measured) -> np.ndarray:
    """Share of the budget after which all but 5 % of the hidden sums are right; 1 if never."""
    there = measured["hidden"] >= GENERALIZED
    first = np.where(there.any(1), there.argmax(1) + 1, there.shape[1])
    return first / there.shape[1]


def _tuning(measured: Measured) -> np.ndarray:
    # Among those that never get there, the nearer one.
    return measured["hidden"].max(1) - 10 * _steps(measured)


CLAIM = Claim(
    title="Grokking of sums modulo 97",
    source="Power et al. 2022; Prakash and Martin 2025 (alpha below 2 as an alarm)",
    published="weight decay improves generalization most of what Power et al. tried",
    statistic="share of the budget until 95 % of the hidden sums are right, 1 where never",
    higher=False,
    make_task=lambda options, folder: modular.task(**options),
    arms={
        "adamw": Arm(
            Program(adamw(schedule=constant)), _decays(1.0, 0.3, 3.0, 0.1), text="weight decay"
        ),
        "adam": Arm(Program(adamw(schedule=constant)), _decays(0, 0, 0, 0), text="none"),
        "nuclear": _arm(
            sr.products_only(sr.nuclear_norm), (1e-3, 1e-4, 1e-2, 1e-5), "the nuclear norm (polar)"
        ),
        "tail": _arm(
            sr.power_law_distance(3.0),
            (1e-2, 1e-1, 1e-3, 1.0),
            "distance from a power law of exponent 3",
            every=5,
            **WARM,
        ),
        "stable rank": _arm(sr.log_stable_rank, (1e-2, 1e-1, 1e-3, 1.0), "log stable rank", **WARM),
    },
    tuning=_tuning,
    value=_steps,
    presets={
        "smoke": Preset(
            Budget(2, 3), 2, 2, {"prime": 11, "width": 8, "batch_size": 16, "share": 0.5}
        ),
        "quick": Preset(
            Budget(15, 100), 3, 3, {"prime": 23, "width": 32, "batch_size": 128, "share": 0.5}
        ),
        "full": Preset(Budget(100, 120), 10, 8),
    },
    also={"last accuracy on hidden sums": lambda measured: measured["hidden"][:, -1]},
)
