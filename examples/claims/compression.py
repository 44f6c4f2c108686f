"""What is left of a network when its matrices are cut to a lower rank after training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from examples.claims import images, language, noise
from examples.claims.claim import Arm, Claim, Preset
from examples.claims.engine import Budget, Measures, Program, Task
from examples.claims.language import BLOCKS, GRID
from examples.claims.noise import DIGITS, MNIST, SMALL
from examples.claims.optimizers import adamw, penalty
from spectral_reg._stacks import eigh  # one matrix at a time on the CPU, whatever maps over it

# Of the rank of each matrix.
SHARES = {"half": 2, "quarter": 4, "eighth": 8, "sixteenth": 16}
PENALTIES = ("nuclear", "entropy", "stable rank")


def truncated(W: jax.Array, rank: int) -> jax.Array:
    """The nearest matrix of a rank; W is `[..., rows, cols]`."""
    tall = W.shape[-2] >= W.shape[-1]
    tall_W = W if tall else jnp.swapaxes(W, -1, -2)
    gram = jnp.matmul(jnp.swapaxes(tall_W, -1, -2), tall_W, precision="highest")
    top = eigh(gram)[1][..., -rank:]
    product = jnp.matmul(tall_W, jnp.matmul(top, jnp.swapaxes(top, -1, -2)), precision="highest")
    return product if tall else jnp.swapaxes(product, -1, -2)


def cut_to(params: Any, rank: int | Callable[[int], int], mask: Any) -> Any:
    """The parameters with the selected matrices at a rank, or at one that follows from theirs."""

    def cut(leaf: jax.Array, is_cut: bool) -> jax.Array:
        full = min(leaf.shape[-2:])
        return truncated(leaf, rank(full) if callable(rank) else rank) if is_cut else leaf

    return jax.tree.map(cut, params, mask(params))


def _share(divisor: int) -> Callable[[int], int]:
    return lambda full: full // divisor


def _of_images(data: Any, params: Any) -> Measures:
    measures = images.held_out_accuracies(data, params)
    for name, divisor in SHARES.items():
        cut = images.held_out_accuracies(data, cut_to(params, _share(divisor), noise.LARGE))
        measures |= {f"{split} {name}": value for split, value in cut.items()}
    return measures


def _of_text(loss_of: Any, params: Any) -> Measures:
    return {
        f"{split} {name}": loss_of(cut_to(params, _share(divisor), BLOCKS), split)
        for name, divisor in SHARES.items()
        for split in ("validation", "test")
    }


def _task_on_images(options: Mapping[str, Any], folder: Path | None) -> Task:
    return noise.make_task({**options, "judged": _of_images}, folder)


def _arms_on_text() -> dict[str, Arm]:
    arms = {"adamw": Arm(Program(adamw()), GRID, text="AdamW, its rate and weight decay tuned")}
    scale = {"nuclear": 0.1, "entropy": 0.1, "stable rank": 0.1}
    for name in PENALTIES:
        metric, options, strengths = noise.SPECTRAL[name]
        before = penalty(metric, mask=BLOCKS, **options)
        grid = tuple(
            {**setting, "decay": 0.1}
            for setting in noise.grid(*(scale[name] * s for s in strengths), rates=(4e-3, 2e-3))
        )
        controls = ("adamw", f"norms of {name}")
        arms[name] = Arm(Program(adamw(before=before)), grid, controls=controls, text=name)
        program = Program(adamw(), norms_of=arms[name].program.optimizer)
        arms[f"norms of {name}"] = Arm(program, tuned_as=name, text=f"AdamW at the norms of {name}")
    return arms


ON_IMAGES = Claim(
    title="Compression: low-rank truncation of an MLP",
    source="Alvarez and Salzmann 2017 (compression-aware training by a low-rank regularizer)",
    published="much more compact, yet at least as effective, models than by compression afterwards",
    statistic="test accuracy at a sixteenth of the rank, among settings within 0.5 % of the best",
    higher=True,
    make_task=_task_on_images,
    arms=noise.arms_of(PENALTIES, l2_strengths=(1e-4, 1e-3, 1e-5, 1e-2)),
    tuning=lambda measured: measured["validation sixteenth"],
    value=lambda measured: measured["test sixteenth"],
    presets={
        "smoke": Preset(Budget(1, 3), 2, 2, DIGITS),
        "quick": Preset(Budget(6, 100), 3, 3, DIGITS),
        "small": Preset(Budget(8, 100), 6, 6, SMALL),
        "full": Preset(Budget(30, 100), 8, 8, MNIST),
    },
    also={
        "full rank": lambda measured: measured["test"],
        "a quarter": lambda measured: measured["test quarter"],
    },
    equal=lambda measured: measured["validation"],
    tolerance=0.005,
    axes=("accuracy", "accuracy at a sixteenth of the rank"),
)

ON_TEXT = Claim(
    title="Compression: low-rank truncation of the language model",
    source=ON_IMAGES.source,
    published=ON_IMAGES.published,
    statistic="test loss at a quarter of the rank, among settings within 0.02 of the best loss",
    higher=False,
    make_task=lambda options, folder: language.task(judged=_of_text, **options),
    arms=_arms_on_text(),
    tuning=lambda measured: -measured["validation quarter"],
    value=lambda measured: measured["test quarter"],
    presets={
        "smoke": Preset(Budget(2, 2), 2, 2, {**language.SMOKE, "width": 32}),
        "quick": Preset(Budget(6, 25), 3, 3, language.QUICK),
        "small": Preset(
            Budget(6, 100), 6, 6, language.SMALL, rate_scale=language.RATE_SCALE, first_seed=100
        ),
        "full": Preset(Budget(10, 100), 8, 8),
    },
    also={
        "full rank": lambda measured: measured["test"],
        "half": lambda measured: measured["test half"],
    },
    equal=lambda measured: -measured["validation"],
    tolerance=0.02,
    axes=("minus the loss", "minus the loss at a quarter of the rank"),
)
