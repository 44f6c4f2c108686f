"""A power law asked for in the blocks of the language model."""

import itertools

import spectral_reg as sr
from examples.claims import language
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Program
from examples.claims.language import BLOCKS, GRID
from examples.claims.optimizers import adamw, penalty

EXPONENTS = (3.0, 2.5, 4.0)
STRONG = tuple(
    {"rate": rate, "decay": 0.1, "strength": strength}
    for rate, strength in itertools.product((4e-3, 2e-3), (0.03, 0.003, 0.3, 0.0003))
)


def _arm(exponent: float) -> Arm:
    metric = sr.power_law_distance(exponent)
    before = penalty(metric, tracking="warm", every=5, mask=BLOCKS)
    controls = ("adamw", f"norms of {exponent:g}")
    text = f"distance from a power law of exponent {exponent:g}"
    return Arm(Program(adamw(before=before)), STRONG, controls=controls, text=text)


def _with_norms(exponent: float, arm: Arm) -> Arm:
    text = f"AdamW at the norms of exponent {exponent:g}"
    program = Program(adamw(), norms_of=arm.program.optimizer)
    return Arm(program, tuned_as=f"tail {exponent:g}", text=text)


def _arms() -> dict[str, Arm]:
    arms = {"adamw": Arm(Program(adamw()), GRID, text="AdamW, its rate and weight decay tuned")}
    for exponent in EXPONENTS:
        arm = _arm(exponent)
        arms |= {f"tail {exponent:g}": arm, f"norms of {exponent:g}": _with_norms(exponent, arm)}
    return arms


CLAIM = Claim(
    title="A power-law tail in the weights of a language model",
    source="Xiao et al. 2023 (heavy-tailed regularization), arXiv 2304.02911",
    published="better generalization than conventional regularization",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(**options),
    arms=_arms(),
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
