"""Test accuracy where images are few: does a bound on all singular values beat the usual decays?"""

import itertools

from examples.claims import noise
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Budget, Program
from examples.claims.optimizers import adamw, cap, l2
from examples.claims.robustness import KERNELS, OWN_RATES, SMALL

CAPPED = adamw(after=cap(mask=KERNELS))


def _grid(name: str, *numbers: float) -> tuple[Setting, ...]:
    return tuple(
        {"rate": rate, "decay": 0.0, name: number}
        for number, rate in itertools.product(numbers, (1.6e-2, 3.2e-2))
    )


CLAIM = Claim(
    title="Few images, and a bound on all singular values",
    source="a lead of ours: the hard cap of the claim on robustness, on its tuning seeds; Yoshida "
    "and Miyato 2017 for the aim",
    published="better generalization than weight decay",
    statistic="test accuracy after the last step",
    higher=True,
    make_task=noise.make_task,
    arms={
        "adam": Arm(
            Program(adamw()),
            tuple({"rate": 1e-3 * 2.0**k, "decay": 0.0} for k in (3, 4, 2, 5, 1, 0, -1, 6)),
            text="Adam",
        ),
        "l2": Arm(Program(adamw(before=l2)), _grid("strength", 1e-3, 3e-4, 3e-3, 6e-4), text="L2"),
        "weight decay": Arm(Program(adamw()), _grid("decay", 0.3, 0.15, 0.5, 0.08), text="AdamW"),
        "hard cap": Arm(
            Program(CAPPED),
            _grid("bound", 2.0, 2.4, 1.7, 2.8),
            controls=("adam", "l2", "weight decay", "norms of hard cap"),
            text="no singular value above a bound after any step",
        ),
        "norms of hard cap": Arm(
            Program(adamw(), norms_of=CAPPED),
            tuned_as="hard cap",
            own_rates=OWN_RATES,
            text="Adam at the norms of hard cap, its own rate tuned",
        ),
    },
    tuning=lambda measured: measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, noise.DIGITS),
        "quick": Preset(Budget(6, 100), 3, 3, noise.DIGITS),
        "small": Preset(Budget(8, 100), 20, 8, SMALL, num_tuning=3, first_seed=300),
        "full": Preset(
            Budget(15, 100),
            20,
            8,
            {**noise.MNIST, "train": 50_000, "drawn": 2000},
            num_tuning=3,
            first_seed=300,
        ),
    },
    also={"fits its labels": lambda measured: measured["train"]},
)
