"""A raised stable rank under AdamW, on the language model."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr
from examples.claims import language
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Budget, Measures, Program, Settings
from examples.claims.language import BLOCKS
from examples.claims.optimizers import adamw, cap, clipped, penalty

# A first round had AdamW at its best at the first of these, of rates from half to twice of it.
RATES = (8e-3, 5.6e-3, 1.12e-2)
OWN_RATES = (1.0, 0.7, 1.4, 0.5, 2.0, 0.25)
OPTIONS = {"tracking": "warm", "mask": BLOCKS}
PUSH = penalty(sr.log_stable_rank, **OPTIONS)
RAISED = adamw(before=PUSH)


def _grid(name: str, *numbers: float, **others: float) -> tuple[Setting, ...]:
    return tuple(
        {"rate": rate, name: number, **others} for number, rate in itertools.product(numbers, RATES)
    )


def _judged(loss_of: Any, params: Any) -> Measures:
    """Means over the matrices of all blocks."""
    del loss_of
    matrices = sr.layer_matrices(params, mask=BLOCKS).values()
    metrics = {"stable rank": sr.stable_rank, "top": sr.spectral_norm}
    return {
        name: jnp.mean(jnp.concatenate([jnp.ravel(metric(W)) for W in matrices]))
        for name, metric in metrics.items()
    }


def _swapped(settings: Settings) -> optax.GradientTransformation:
    """The gradients of the penalty, each added to the matrix of the next block."""
    push = PUSH(settings)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pushes, state = push.update(jax.tree.map(jnp.zeros_like, updates), state, params)
        return jax.tree.map(lambda u, p: u + jnp.roll(p, 1, axis=0), updates, pushes), state

    return optax.GradientTransformation(push.init, update)


def _blocks_scaled(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
    del key
    return optax.masked(optax.scale(settings["factor"]), BLOCKS)


CONTROLS = {
    "adamw": Arm(Program(adamw()), _grid("decay", 0.1, 0.03, 0.3), text="AdamW"),
    "adamw, as in the first round": Arm(
        Program(adamw()), _grid("decay", 0.1)[:1], text="AdamW as the first round chose it"
    ),
    "clipping": Arm(
        Program(adamw(before=clipped)),
        _grid("bound", 1.0, 0.3, 0.1, decay=0.1),
        text="AdamW, the gradient cut",
    ),
    "blocks": Arm(
        Program(adamw(after=_blocks_scaled)),
        _grid("factor", 0.5, 2.0, 0.25, decay=0.1),
        text="AdamW, other rates for the blocks than for the rest",
    ),
    "swapped": Arm(
        Program(adamw(before=_swapped)),
        _grid("strength", -1e-2, -3e-2, -3e-3, decay=0.1),
        text="the gradients of raised, at the wrong block",
    ),
    "top": Arm(
        Program(adamw(before=penalty(sr.spectral_norm, **OPTIONS))),
        _grid("strength", 1e-2, 3e-3, 3e-2, decay=0.1),
        text="AdamW, the largest singular values lowered",
    ),
    "hard cap": Arm(
        Program(adamw(after=cap(soft=True, mask=BLOCKS))),
        _grid("bound", 2.0, 4.0, 1.0, decay=0.1),
        text="AdamW, no singular value above a bound after any step",
    ),
}

CLAIM = Claim(
    title="A raised stable rank under AdamW",
    source="a lead of ours: 1.944 ± .012 nats against 1.996 ± .021 after 300 steps, three seeds, "
    "nothing tuned",
    published="nothing like it that we know; MSign (see the failures) restores stable ranks",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(judged=_judged, **options),
    arms={
        **CONTROLS,
        "raised": Arm(
            Program(RAISED),
            _grid("strength", -1e-2, -3e-3, -3e-2, decay=0.1),
            controls=(*CONTROLS, "norms of raised"),
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
    also={
        "last training loss": lambda measured: measured["loss"][:, -1],
        "stable rank": lambda measured: measured["stable rank"],
        "largest singular value": lambda measured: measured["top"],
    },
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, language.SMOKE),
        "quick": Preset(Budget(6, 25), 3, 3, language.QUICK),
        "small": Preset(Budget(6, 100), 10, 9, language.SMALL, first_seed=400),
        "full": Preset(Budget(10, 100), 8, 9, rate_scale=1 / language.RATE_SCALE),
    },
)
