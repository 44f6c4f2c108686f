"""How soon sums modulo a prime are generalized, long after those shown are known by heart."""

import itertools
from collections.abc import Iterator, Mapping

import jax
import numpy as np
import optax

import spectral_reg as sr
from examples.claims import modular
from examples.claims.claim import Arm, Claim, Measured, Preset
from examples.claims.engine import Budget, Optimizer, Program, Settings
from examples.claims.optimizers import adamw, constant, penalty

GENERALIZED = 0.95
# Below it, Prakash and Martin say, a layer is overfitted.
ALARM = 2.0
RATES = (3e-3, 1e-2)
ADAM = tuple({"rate": 1e-3 * 2.0**k, "decay": 0.0} for k in (1, 2, 3, 0, 4, -1, -2, 5))
WARM = {"tracking": "warm"}


def _grid(name: str, *numbers: float) -> tuple[dict[str, float], ...]:
    return tuple(
        {"rate": rate, "decay": 0.0, name: number}
        for rate, number in itertools.product(RATES, numbers)
    )


def _polar_decay(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
    del key
    # After Adam, as weight decay is: all singular values go down by the same step.
    return sr.add_spectral_penalty(sr.products_only(sr.nuclear_norm), settings["strength"])


TAIL = adamw(schedule=constant, before=penalty(sr.power_law_distance(3.0), every=5, **WARM))
RANK = adamw(schedule=constant, before=penalty(sr.log_stable_rank, **WARM))
SPECTRAL: dict[str, tuple[Optimizer, tuple[float, ...], str]] = {
    "polar decay": (
        adamw(schedule=constant, decay=_polar_decay),
        (0.3, 0.1, 1.0, 0.03),
        "a decay of all singular values by the same step",
    ),
    "tail": (TAIL, (1e-2, 1e-1, 1e-3, 1.0), "distance from a power law of exponent 3"),
    "stable rank": (RANK, (1e-2, 1e-1, 1e-3, 1.0), "log stable rank"),
}


def _arms() -> dict[str, Arm]:
    plain = Program(adamw(schedule=constant))
    arms = {
        "adamw": Arm(plain, _grid("decay", 1.0, 0.3, 3.0, 0.1), text="weight decay"),
        "adam": Arm(plain, ADAM, text="none"),
    }
    for name, (optimizer, numbers, text) in SPECTRAL.items():
        controls = ("adamw", f"norms of {name}")
        arms[name] = Arm(
            Program(optimizer), _grid("strength", *numbers), controls=controls, text=text
        )
        held = Program(adamw(schedule=constant), norms_of=optimizer)
        arms[f"norms of {name}"] = Arm(held, tuned_as=name, text=f"Adam at the norms of {name}")
    return arms


def _steps(measured: Measured) -> np.ndarray:
    """Share of the budget after which all but 5 % of the hidden sums are right; 1 if never."""
    there = measured["hidden"] >= GENERALIZED
    first = np.where(there.any(1), there.argmax(1) + 1, there.shape[1])
    return first / there.shape[1]


def _tuning(measured: Measured) -> np.ndarray:
    # Among those that never get there, the nearer one.
    return measured["hidden"].max(1) - 10 * _steps(measured)


def _notes(tuned: Mapping[str, Measured], judged: Mapping[str, Measured], chunk: int) -> list[str]:
    del tuned, chunk
    watched = {arm: measured for arm, measured in judged.items() if "alpha" in measured}
    return [*_alarms(watched)] if watched else []


def _alarms(judged: Mapping[str, Measured]) -> Iterator[str]:
    yield f"Is an alpha below {ALARM:g} an alarm? The least alpha of the layers, median over seeds:"
    yield ""
    yield (
        "| arm | at the start | when generalized | at the end | runs that end below "
        f"{ALARM:g} | of these, back below {GENERALIZED:.0%} |"
    )
    yield "|---|---|---|---|---|---|"
    for arm, measured in judged.items():
        alpha, hidden = measured["alpha"], measured["hidden"]
        there = hidden >= GENERALIZED
        first = np.where(there.any(1), there.argmax(1), -1)
        when = [row[step] for row, step in zip(alpha, first, strict=True) if step >= 0]
        below = alpha[:, -1] < ALARM
        lost = there.any(1) & ~there[:, -1]
        yield (
            f"| {arm} | {np.median(alpha[:, 0]):.2f} | "
            f"{f'{np.median(when):.2f}' if when else 'never'} | {np.median(alpha[:, -1]):.2f} | "
            f"{below.sum()} of {len(below)} | {(lost & below).sum()} |"
        )


CLAIM = Claim(
    title="Grokking of sums modulo 97",
    source="Power et al. 2022; Prakash and Martin 2025 (alpha below 2 as an alarm)",
    published="weight decay improves generalization most of what Power et al. tried",
    statistic="share of the budget until 95 % of the hidden sums are right, 1 where never",
    higher=False,
    make_task=lambda options, folder: modular.task(**options),
    arms=_arms(),
    tuning=_tuning,
    value=_steps,
    presets={
        "smoke": Preset(
            Budget(2, 3), 2, 2, {"prime": 11, "width": 8, "batch_size": 16, "share": 0.5}
        ),
        "quick": Preset(
            Budget(15, 100), 3, 3, {"prime": 23, "width": 32, "batch_size": 128, "share": 0.5}
        ),
        "small": Preset(Budget(75, 40), 10, 8, {"width": 64}),
        "full": Preset(Budget(100, 120), 10, 8),
    },
    also={"last accuracy on hidden sums": lambda measured: measured["hidden"][:, -1]},
    notes=_notes,
)
