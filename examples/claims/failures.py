"""Training failures of the language model under learning rates that are too high."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from examples.claims import language, warnings
from examples.claims.claim import Arm, Claim, Measured, Preset
from examples.claims.engine import Budget, Measures, Program, Settings
from examples.claims.language import BLOCKS
from examples.claims.optimizers import adamw, cap, clipped, constant, penalty

# A run is alive if it has learned more than how often each byte occurs, 3.2 nats a byte.
ALIVE = 2.8
# No rate makes a run fail by this; so one was looked for that tells the worst from the rest.
ALIVE_AFTER = 2.4
RATES = (1e-2, 3e-2, 1e-1)
NORMS = (sr.log_stable_rank, sr.spectral_norm)
WATCH = sr.watch_spectra(NORMS, mask=BLOCKS, tracking="warm", every=10)


def _watched(data: Any, params: Any, state: Any, key: jax.Array, step: jax.Array) -> Measures:
    del data, params, key, step
    values = sr.spectral_values(state)
    extreme = {"log_stable_rank": jnp.min, "spectral_norm": jnp.max}
    return {
        name: worst(jnp.stack([v for path, v in values.items() if path.startswith(name)]))
        for name, worst in extreme.items()
    }


def _blocks(name: str, numbers: tuple[float, ...], scale: float = 1.0) -> tuple[dict, ...]:
    """Blocks of all rates, one for each number."""
    return tuple(
        {"rate": scale * rate, "decay": 0.1, name: number}
        for number, rate in itertools.product(numbers, RATES)
    )


def _watching(before: Any = None, after: Any = None) -> Program:
    def first(settings: Settings) -> optax.GradientTransformation:
        return optax.chain(WATCH, before(settings)) if before else WATCH

    return Program(adamw(schedule=constant, before=first, after=after))


FLOOR = sr.hinge(sr.log_stable_rank, below=math.log(8.0))
CAP = sr.hinge(sr.spectral_norm, above=4.0)
OPTIONS = {"mask": BLOCKS, "tracking": "warm"}
PLAIN = _watching()
DECAYS = (0.1, 0.3, 1.0, 0.01, 0.0)
STRENGTHS = (1e-2, 1e-1, 1e-3, 1.0, 10.0)


def _signals(cells: Mapping[str, Measured]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """By name, higher is worse, and the last loss: of runs that nothing helps but their rate."""
    runs = [cells[arm] for arm in ("adamw", "lower rate")]
    joined = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    signals = {
        "the loss": joined["loss"],
        "the least stable rank": -joined["log_stable_rank"],
        "the largest singular value": joined["spectral_norm"],
    }
    return signals, joined["test"]


def _notes(tuned: Mapping[str, Measured], judged: Mapping[str, Measured], chunk: int) -> list[str]:
    (known, known_loss), (fresh, loss) = _signals(tuned), _signals(judged)
    told = [
        f"Warnings, of the {len(loss)} runs of AdamW on fresh seeds, at all rates. A signal, read "
        f"every {chunk} steps, warns the third time in a row that it is worse than in every run of "
        "the tuning seeds that lived."
    ]
    for bound, when in ((ALIVE, "decided before any run"), (ALIVE_AFTER, "decided afterwards")):
        alive, known_alive = loss < bound, known_loss < bound
        told += ["", f"Failed means a loss of {bound} or more ({when}): {(~alive).sum()} do.", ""]
        if not alive.all():
            told += warnings.lines(known, known_alive, fresh, alive, chunk)
    return told


def _share_alive(measured: Measured) -> np.ndarray:
    return np.where(measured["test"] < ALIVE, 1.0, 0.0)  # NaN is not alive


def _finite(loss: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(loss), np.minimum(loss, math.log(256)), math.log(256))


CLAIM = Claim(
    title="Training failures at high learning rates",
    source="Ren et al. 2026, MSign, arXiv 2602.01734",
    published="a rapid decline of the stable rank precedes failures of a model of 5M parameters; "
    "restoring it prevents them at an overhead below 7 %",
    statistic="loss on the test text, nats a byte, ln 256 where it is none or higher",
    higher=False,
    make_task=lambda options, folder: language.task(watched=_watched, **options),
    arms={
        "adamw": Arm(PLAIN, _blocks("decay", DECAYS), text="AdamW, a constant rate"),
        "lower rate": Arm(
            PLAIN, _blocks("decay", DECAYS, scale=0.25), text="a quarter of the rate"
        ),
        "clipping": Arm(
            _watching(clipped),
            _blocks("bound", (1.0, 0.3, 0.1, 0.03, 3.0)),
            text="the gradient cut",
        ),
        "floor": Arm(
            _watching(penalty(FLOOR, **OPTIONS)),
            _blocks("strength", STRENGTHS),
            controls=("adamw", "clipping", "lower rate"),
            text="a stable rank of at least 8 asked for",
        ),
        "cap": Arm(
            _watching(penalty(CAP, **OPTIONS)),
            _blocks("strength", STRENGTHS),
            controls=("adamw", "clipping", "lower rate"),
            text="a largest singular value of at most 4 asked for",
        ),
        "hard cap": Arm(
            _watching(after=cap(mask=BLOCKS)),
            _blocks("bound", (4.0, 2.0, 8.0, 3.0, 16.0)),
            controls=("adamw", "clipping", "lower rate"),
            text="no singular value above a bound after any step",
        ),
    },
    tuning=lambda measured: -_finite(measured["validation"]),
    value=lambda measured: _finite(measured["test"]),
    presets={
        "smoke": Preset(Budget(2, 2), 2, 3, language.SMOKE),
        "quick": Preset(Budget(10, 10), 2, 6, language.QUICK),
        "small": Preset(Budget(30, 10), 8, 6, language.SMALL, num_tuning=2),
        "full": Preset(Budget(60, 10), 10, 15, num_tuning=2),
    },
    several=len(RATES),
    also={"share alive": _share_alive},
    notes=_notes,
)
