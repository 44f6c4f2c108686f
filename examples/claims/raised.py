"""A raised stable rank under AdamW, on the language model."""

import itertools

import optax

import spectral_reg as sr
from examples.claims import language
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Budget, Program, Settings
from examples.claims.language import BLOCKS
from examples.claims.optimizers import adamw, penalty

# About where a first round, over rates from half to twice of it, had all arms at their best.
RATES = (8e-3, 5.6e-3, 1.12e-2)
OWN_RATES = (1.0, 0.7, 1.4, 0.5, 2.0, 0.25)
OPTIONS = {"tracking": "warm", "mask": BLOCKS}
RAISED = adamw(before=penalty(sr.log_stable_rank, **OPTIONS))


def _grid(name: str, *numbers: float, **others: float) -> tuple[Setting, ...]:
    return tuple(
        {"rate": rate, name: number, **others} for number, rate in itertools.product(numbers, RATES)
    )


def _clipped(settings: Settings) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(settings["clip"])


CLAIM = Claim(
    title="A raised stable rank under AdamW",
    source="a lead of ours: 300 steps, three seeds, nothing tuned",
    published="validation loss 1.944 ± .012 against 1.996 ± .021",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(**options),
    arms={
        "adamw": Arm(Program(adamw()), _grid("decay", 0.1, 0.03, 0.3), text="AdamW"),
        "clipping": Arm(
            Program(adamw(before=_clipped)),
            _grid("clip", 1.0, 0.3, 0.1, decay=0.1),
            text="AdamW, the gradient cut",
        ),
        "top": Arm(
            Program(adamw(before=penalty(sr.spectral_norm, **OPTIONS))),
            _grid("strength", 1e-2, 3e-3, 3e-2, decay=0.1),
            text="AdamW, the largest singular values lowered",
        ),
        "raised": Arm(
            Program(RAISED),
            _grid("strength", -1e-2, -3e-3, -3e-2, decay=0.1),
            controls=("adamw", "clipping", "top", "norms of raised"),
            text="AdamW, log stable rank raised",
        ),
        "norms of raised": Arm(
            Program(adamw(), norms_of=RAISED),
            tuned_as="raised",
            own_rates=OWN_RATES,
            text="AdamW at the norms of raised, its own rate tuned",
        ),
    },
    tuning=lambda measured: -measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, language.SMOKE),
        "quick": Preset(Budget(6, 25), 3, 3, language.QUICK),
        "small": Preset(Budget(6, 100), 10, 9, language.SMALL, first_seed=400),
        # Four times as many steps: does the gain last?
        "long": Preset(Budget(24, 100), 5, 3, language.SMALL, rate_scale=0.7, first_seed=500),
        "full": Preset(Budget(10, 100), 8, 9, rate_scale=1 / language.RATE_SCALE),
    },
)
