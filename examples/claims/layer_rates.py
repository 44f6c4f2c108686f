"""Learning rates and weight decays layer by layer, on the language model."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr
from examples.claims import language
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Program, Settings
from examples.claims.optimizers import adamw

Ratio = Callable[[jax.Array], jax.Array]
BLOCKS = sr.by_path("blocks/*/kernel")
GRID = tuple(
    {"rate": rate, "decay": decay}
    for rate, decay in itertools.product((4e-3, 2e-3, 8e-3, 1e-3), (0.1, 1.0))
)
CONTROLS = ("own", "uniform", "permuted")
# Steps between new factors: LLR's, and ten times a run; the others renew theirs each epoch or 500.
EVERY = 100


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


def _rates(low: float, high: float, *, transition: int = 0) -> Program:
    ratio = sr.linear_ratio(low, high, keep_mean=False)

    def after(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
        own = dealt(ratio, settings["control"], key)
        return sr.scale_by_layer_spectra(own, every=EVERY, transition=transition, mask=BLOCKS)

    return Program(adamw(after=after))


def _decays(low: float, high: float) -> Program:
    ratio = sr.linear_ratio(low, high, keep_mean=False)

    def decay(settings: Settings, key: jax.Array) -> optax.GradientTransformation:
        own = dealt(ratio, settings["control"], key)
        return sr.add_decayed_weights_by_spectra(settings["decay"], own, every=EVERY, mask=BLOCKS)

    return Program(adamw(decay=decay))


def _arms(name: str, program: Program, text: str) -> dict[str, Arm]:
    texts = (text, f"{name}, every layer at the mean", f"{name}, factors at the wrong layers")
    arms = {}
    for control, (form, what) in enumerate(zip(CONTROLS, texts, strict=True)):
        own = name if form == "own" else f"{name}-{form}"
        grid = tuple({**setting, "control": control} for setting in GRID)
        beats = ("adamw", f"{name}-uniform", f"{name}-permuted") if form == "own" else ()
        arms[own] = Arm(program, grid, controls=beats, text=what)
    return arms


CLAIM = Claim(
    title="Layer-wise rates and decays from the tails of the spectra",
    source="Zhou et al. 2023 (TempBalance); He et al. 2025, arXiv 2506.14562 (AlphaDecay); "
    "He et al. 2026 (LLR)",
    published="AlphaDecay: a better perplexity than uniform decay, from 60M to 1B parameters",
    statistic="loss on the test text, nats a byte, after the last step",
    higher=False,
    make_task=lambda options, folder: language.task(**options),
    arms={
        "adamw": Arm(Program(adamw()), GRID, text="AdamW"),
        **_arms("temp-balance", _rates(0.5, 1.5), "rates times 0.5 to 1.5, as alpha rises"),
        **_arms("alpha-decay", _decays(2 / 3, 5.0), "decays times 2/3 to 5, as alpha rises"),
        **_arms("llr", _rates(1.0, 5.0, transition=50), "rates times 1 to 5, as alpha rises"),
    },
    tuning=lambda measured: -measured["validation"],
    value=lambda measured: measured["test"],
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, language.SMOKE),
        "quick": Preset(Budget(6, 25), 3, 3, language.SMALL),
        "full": Preset(Budget(10, 100), 8, 8),
    },
    shared="language",
)
