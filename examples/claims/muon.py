"""A cap under Muon, on the language model."""

import itertools
from typing import Any

import jax
import optax

import spectral_reg as sr
from examples.claims import language
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Optimizer, Program, Settings
from examples.claims.language import BLOCKS, GRID
from examples.claims.optimizers import adamw, cap, cosine, penalty

MUON_RATES = (2e-2, 1e-2)
DECAYS = (0.1, 0.03, 0.3, 1.0)


def _labels(params: Any) -> Any:
    return jax.tree.map(lambda is_block: "muon" if is_block else "adam", BLOCKS(params))


def muon(before: Any = None, after: Any = None) -> Optimizer:
    """Muon for the matrices of the blocks, Adam at a quarter of its rate for all else."""

    def optimizer(
        settings: Settings, key: jax.Array, num_steps: int
    ) -> optax.GradientTransformation:
        schedule = cosine(settings["rate"], num_steps)
        dimensions = optax.contrib.MuonDimensionNumbers((-2,), (-1,))
        parts = {
            "muon": optax.chain(
                optax.contrib.scale_by_muon(
                    weight_dimension_numbers=lambda params: jax.tree.map(
                        lambda leaf: dimensions, params
                    )
                ),
                optax.add_decayed_weights(settings["decay"]),
                optax.scale_by_learning_rate(schedule),
            ),
            "adam": optax.chain(
                optax.scale_by_adam(b2=0.98),
                optax.add_decayed_weights(0.1),
                optax.scale_by_learning_rate(lambda count: schedule(count) / 4),
            ),
        }
        split = optax.partition(parts, _labels)
        first = [before(settings)] if before else []
        last = [after(settings, key)] if after else []
        return optax.chain(*first, split, *last)

    return optimizer


def _grid(
    rates: tuple[float, ...], numbers: tuple[float, ...], name: str, **others: float
) -> tuple[dict[str, float], ...]:
    return tuple(
        {"rate": rate, name: number, **others} for rate, number in itertools.product(rates, numbers)
    )


OPTIONS = {"tracking": "warm", "mask": BLOCKS}
CAP = muon(penalty(sr.hinge(sr.spectral_norm, above=2.0), **OPTIONS))

CLAIM = Claim(
    title="A cap under Muon",
    source="a lead of ours: 1.859 ± .006 nats with a cap against 2.100 ± .047 after 300 steps, "
    "three seeds, nothing tuned",
    published="no gain in the loss that we know of",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(**options),
    arms={
        "adamw": Arm(Program(adamw()), GRID, text="AdamW"),
        "muon": Arm(Program(muon()), _grid(MUON_RATES, DECAYS, "decay"), text="Muon"),
        "muon, other rates": Arm(
            Program(muon()), _grid((4e-2, 5e-3), DECAYS, "decay"), text="Muon at other rates"
        ),
        "cap": Arm(
            Program(CAP),
            _grid(MUON_RATES, (1e-1, 1e-2, 1.0, 1e-3), "strength", decay=0.1),
            controls=("adamw", "muon", "muon, other rates", "norms of cap"),
            text="Muon, largest singular values of at most 2 asked for",
        ),
        "hard cap": Arm(
            Program(muon(after=cap(soft=True, mask=BLOCKS))),
            _grid(MUON_RATES, (2.0, 4.0, 1.0, 8.0), "bound", decay=0.0),
            controls=("adamw", "muon", "muon, other rates"),
            text="Muon, no singular value above a bound after any step",
        ),
        "norms of cap": Arm(Program(muon(), CAP), tuned_as="cap", text="Muon at the cap's norms"),
    },
    tuning=lambda measured: -measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, language.SMOKE),
        "quick": Preset(Budget(6, 25), 3, 3, language.QUICK),
        "small": Preset(
            Budget(6, 100), 6, 6, language.SMALL, rate_scale=language.RATE_SCALE, first_seed=100
        ),
        "full": Preset(Budget(10, 100), 8, 8),
    },
    shared="language",
)
