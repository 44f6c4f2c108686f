"""Learning rates and weight decays layer by layer, on the language model and on MiniAlexNet."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr
from examples.claims import convolutions, language
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Budget, Optimizer, Program, Settings
from examples.claims.optimizers import adamw, sgd

Ratio = Callable[[jax.Array], jax.Array]
CONTROLS = ("own", "uniform", "permuted")
# Steps between new factors: LLR's, and five to ten times a run; the others renew theirs each epoch
# or 500.
EVERY = 100


class Base(NamedTuple):
    """What the layer-wise forms are made from, and held against.

    Attributes:
        name: Of its arm.
        text: What it is.
        optimizer: Of the settings `rate` and `decay`, with additions.
        layers: Which layers have a rate of their own.
        grid: The settings that are tried.
    """

    name: str
    text: str
    optimizer: Callable[..., Optimizer]
    layers: Any
    grid: tuple[Setting, ...]


ADAMW = Base("adamw", "AdamW", adamw, language.BLOCKS, language.GRID)
# The decay comes after the momentum, which makes ten times as much of a gradient.
SGD = Base(
    "sgd",
    "SGD with momentum",
    sgd,
    sr.by_path("*kernel", exclude="fc3*"),
    tuple(
        {"rate": rate, "decay": decay}
        for rate, decay in itertools.product((0.02, 0.01, 0.04, 0.005), (5e-3, 5e-2))
    ),
)


def dealt(ratio: Ratio, control: jax.Array, key: jax.Array) -> Ratio:
    """The ratio's own factors, their mean for all layers, or the same at the wrong layers.

    As `uniform` and `permute_layers` of :func:`scale_by_layer_spectra` do, but by a traced number:
    so the three are one program.
    """

    def factors(metric: jax.Array) -> jax.Array:
        own = ratio(metric)
        order = jax.random.permutation(key, own.size)
        # One cycle through all layers: none keeps its own.
        moved = jnp.zeros_like(own).at[order].set(own[jnp.roll(order, 1)])
        return jnp.stack([own, jnp.full_like(own, jnp.mean(own)), moved])[control]

    return factors


def _rates(base: Base, low: float, high: float, *, transition: int = 0) -> Program:
    ratio = sr.linear_ratio(low, high, keep_mean=False)

    def after(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
        own = dealt(ratio, settings["control"], key)
        return sr.scale_by_layer_spectra(own, every=EVERY, transition=transition, mask=base.layers)

    return Program(base.optimizer(after=after))


def _decays(base: Base, low: float, high: float) -> Program:
    ratio = sr.linear_ratio(low, high, keep_mean=False)

    def decay(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
        own = dealt(ratio, settings["control"], key)
        return sr.add_decayed_weights_by_spectra(
            settings["decay"], own, every=EVERY, mask=base.layers
        )

    return Program(base.optimizer(decay=decay))


def _forms(base: Base, name: str, program: Program, text: str) -> dict[str, Arm]:
    texts = (text, f"{name}, every layer at the mean", f"{name}, factors at the wrong layers")
    arms = {}
    for control, (form, what) in enumerate(zip(CONTROLS, texts, strict=True)):
        own = name if form == "own" else f"{name}-{form}"
        grid = tuple({**setting, "control": control} for setting in base.grid)
        beats = (base.name, f"{name}-uniform", f"{name}-permuted") if form == "own" else ()
        arms[own] = Arm(program, grid, controls=beats, text=what)
    return arms


def _arms(base: Base) -> dict[str, Arm]:
    balance, decays = _rates(base, 0.5, 1.5), _decays(base, 2 / 3, 5.0)
    llr = _rates(base, 1.0, 5.0, transition=50)
    return {
        base.name: Arm(Program(base.optimizer()), base.grid, text=base.text),
        **_forms(base, "temp-balance", balance, "rates times 0.5 to 1.5, as alpha rises"),
        **_forms(base, "alpha-decay", decays, "decays times 2/3 to 5, as alpha rises"),
        **_forms(base, "llr", llr, "rates times 1 to 5, as alpha rises"),
    }


ON_TEXT = Claim(
    title="Layer-wise rates and decays from the tails of the spectra",
    source="Zhou et al. 2023 (TempBalance); He et al. 2025, arXiv 2506.14562 (AlphaDecay); "
    "He et al. 2026 (LLR)",
    published="AlphaDecay: a better perplexity than uniform decay, from 60M to 1B parameters",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(**options),
    arms=_arms(ADAMW),
    tuning=lambda measured: -measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, language.SMOKE),
        "quick": Preset(Budget(6, 25), 3, 3, language.QUICK),
        "small": Preset(
            Budget(6, 100), 12, 6, language.SMALL, rate_scale=language.RATE_SCALE, first_seed=300
        ),
        "full": Preset(Budget(10, 100), 8, 8),
    },
    shared="language",
)

ON_IMAGES = Claim(
    title="Layer-wise rates and decays on a convolutional network",
    source=ON_TEXT.source,
    published="TempBalance: better test accuracies of ResNets, VGGs and wide ResNets than SGD",
    statistic="test accuracy of MiniAlexNet on 5,000 images of CIFAR-10, after the last step",
    higher=True,
    make_task=lambda options, folder: convolutions.task(folder, **options),
    arms=_arms(SGD),
    tuning=lambda measured: measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(2, 1), 2, 2, convolutions.SMOKE),
        "quick": Preset(Budget(2, 40), 3, 2),
        "small": Preset(Budget(6, 100), 5, 4, {"batch_size": 16, "held_out": 2000}),
        "full": Preset(Budget(15, 100), 8, 8, {"train": 10_000}),
    },
    also={"train": lambda measured: measured["train"]},
)
