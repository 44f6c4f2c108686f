"""Learning one thing after the other: labels that change, and what keeps a network able."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from examples.claims import images
from examples.claims.claim import Arm, Claim, Measured, Preset
from examples.claims.engine import Budget, Program, Settings, Task
from examples.claims.optimizers import adamw, constant, l2, penalty

# The last layer has no more than ten singular values.
HIDDEN = sr.by_path("fc*/kernel", exclude=("fc4/*",))
POWER = 2


@sr.norm_metric
def distance_from_one(squared_norm: jax.Array, lambda_max: jax.Array) -> jax.Array:
    """`(sigma_max^2 - 1)^2`, Lewandowski et al.'s regularizer with k = 2."""
    del squared_norm
    return jnp.square(lambda_max - 1)


def l2_to_the_start(settings: Settings) -> optax.GradientTransformation:
    """L2 of the distance from the initial weights."""

    def init(params: Any) -> Any:
        return params

    def update(updates: Any, start: Any, params: Any = None) -> tuple[Any, Any]:
        def pull(update: jax.Array, param: jax.Array, start: jax.Array) -> jax.Array:
            return update + settings["strength"] * (param - start)

        return jax.tree.map(pull, updates, params, start), start

    return optax.GradientTransformation(init, update)


def _program(before: Any = None) -> Program:
    return Program(adamw(schedule=constant, before=before))


def _grid(name: str, rates: tuple[float, ...], *numbers: float) -> tuple[dict[str, float], ...]:
    return tuple(
        {"rate": rate, "decay": 0.0, "strength": 0.0, name: number}
        for rate, number in itertools.product(rates, numbers)
    )


# About the best of a first round, for every arm the same number: of rates 1e-3, 3e-3 and 1e-2, and
# three numbers a factor of ten apart.
LOW, MIDDLE, HIGH = (5e-4, 1e-3, 2e-3), (1e-3, 3e-3, 1e-2), (1.5e-3, 2e-3, 3e-3)
OWN_RATES = tuple(2.0**k for k in (0, -1, 1, -2, 2, -3, 3, -4, -5))
RATES = tuple({"rate": 1e-3 * 2.0**k, "decay": 0.0} for k in (0, 1, -1, 2, -2, 3, -3, 4, -4))
NORM = {"tracking": "warm"}
CONTROLS = ("adam", "l2", "weight decay", "l2 to the start")
SPECTRAL: dict[str, tuple[Any, dict[str, Any], tuple[dict[str, float], ...], str]] = {
    "sigma": (
        distance_from_one,
        {},
        _grid("strength", HIGH, 1e-2, 5e-3, 3e-3),
        "(sigma_max^2 - 1)^2 of the kernels",
    ),
    "floor": (
        sr.hinge(sr.log_stable_rank, below=math.log(16.0)),
        {"mask": HIDDEN},
        _grid("strength", MIDDLE, 1e-2, 1e-1, 1e-3),
        "a stable rank of at least 16 asked for",
    ),
    "tail": (
        sr.power_law_distance(3.0),
        {"every": 5, "mask": HIDDEN},
        _grid("strength", MIDDLE, 1e-2, 1e-1, 1e-3),
        "distance from a power law of exponent 3",
    ),
}


def _arms() -> dict[str, Arm]:
    arms = {
        "adam": Arm(_program(), RATES, text="Adam"),
        "l2": Arm(_program(l2), _grid("strength", LOW, 1e-3, 3e-3, 3e-4), text="L2"),
        "weight decay": Arm(_program(), _grid("decay", LOW, 0.1, 0.3, 0.03), text="AdamW"),
        "l2 to the start": Arm(
            _program(l2_to_the_start),
            _grid("strength", HIGH, 1e-2, 5e-3, 3e-3),
            text="L2 to the first weights",
        ),
    }
    for name, (metric, options, grid, text) in SPECTRAL.items():
        program = _program(penalty(metric, **{**NORM, **options}))
        controls = (*CONTROLS, f"norms of {name}")
        arms[name] = Arm(program, grid, controls=controls, text=text)
        program = Program(adamw(schedule=constant), norms_of=arms[name].program.optimizer)
        # The others are no better than Adam, whatever this control does.
        own_rates = OWN_RATES if name == "sigma" else ()
        text = f"Adam at the norms of {name}" + (", its own rate tuned" if own_rates else "")
        arms[f"norms of {name}"] = Arm(program, tuned_as=name, own_rates=own_rates, text=text)
    return arms


# More than Adam learns by heart in the time, so that what learns sooner shows.
HARD = {"data": "mnist", "steps_a_task": 200, "num_images": 1000}


def _make_task(options: Mapping[str, Any], folder: Path | None) -> Task:
    data = images.read(options["data"], folder, train=options["num_images"], held_out=100)
    chosen = {name: value for name, value in options.items() if name != "data"}
    return images.label_sequence(data, **chosen)


def _late(measured: Measured) -> np.ndarray:
    """Mean accuracy at the end of the tasks of the second half."""
    learned = measured["learned"]
    return learned[:, learned.shape[1] // 2 :].mean(1)


def _gained(measured: Measured) -> np.ndarray:
    """Mean accuracy of the last quarter of the tasks above that of the first task."""
    learned = measured["learned"]
    return learned[:, -(learned.shape[1] // 4) :].mean(1) - learned[:, 0]


CLAIM = Claim(
    title="Plasticity: random labels that change",
    source="Lewandowski et al. 2025, arXiv 2406.06811",
    published="keeping each largest singular value close to 1 sustains trainability, and is less "
    "sensitive to hyperparameters",
    statistic="accuracy at the end of a task on its labels, mean over the second half of the tasks",
    higher=True,
    make_task=_make_task,
    arms=_arms(),
    tuning=_late,
    value=_late,
    presets={
        "smoke": Preset(
            Budget(4, 3), 2, 2, {"data": "digits", "steps_a_task": 3, "num_images": 50}
        ),
        "quick": Preset(
            Budget(10, 60), 3, 3, {"data": "digits", "steps_a_task": 60, "num_images": 200}
        ),
        "small": Preset(Budget(20, 200), 6, 9, HARD, first_seed=100),
        "full": Preset(Budget(40, 200), 10, 9, HARD, first_seed=100),
    },
    also={
        "first task": lambda measured: measured["learned"][:, 0],
        "gained since, in the last quarter": _gained,
    },
)
