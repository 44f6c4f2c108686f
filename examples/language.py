"""How well does the small language model predict a text? Bits a byte, on what it has not seen."""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.sweeping.command import positive
from examples.training import language_model
from examples.training.data import DataError
from examples.training.memory import keep_freed

WARMUP = 0.05
# Windows of held-out text that bits a byte are the mean of: good to about one per cent.
NUM_JUDGED = 256
JUDGED_AT_ONCE = 32


class Preset(NamedTuple):
    """A size of the model and of its training."""

    width: int
    num_blocks: int
    context: int
    batch_size: int
    num_steps: int
    rate: float


PRESETS = {
    "small": Preset(128, 3, 128, 8, 3000, 4e-3),  # 0.6 million parameters
    "large": Preset(256, 3, 128, 8, 3000, 3e-3),  # 2.5 million
    "smoke": Preset(16, 1, 16, 2, 4, 4e-3),
}


def _held_out(text: np.ndarray, context: int) -> np.ndarray:
    starts = np.linspace(0, len(text) - context - 1, NUM_JUDGED).astype(int)
    windows = text[starts[:, None] + np.arange(context + 1)].astype(np.int32)
    return windows.reshape(-1, JUDGED_AT_ONCE, context + 1)


def train(preset: Preset, text: str, *, seed: int = 0, report: int = 500) -> Iterator[str]:
    """Trains, and says from time to time how it goes.

    Args:
        preset: Sizes.
        text: Name of one of :data:`language_model.TEXTS`.
        seed: Of the weights and the batches.
        report: Steps between two lines.

    Yields:
        Lines for people; the last has the bits a byte on held-out text.

    Raises:
        DataError: If the text is not installed.
    """
    read, held_out = language_model.texts(text)
    graph, params = language_model.initial(
        seed, width=preset.width, num_blocks=preset.num_blocks, context=preset.context
    )
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, preset.rate, int(WARMUP * preset.num_steps), preset.num_steps
    )
    optimizer = optax.adamw(schedule, b2=0.98, weight_decay=0.1)
    step = jax.jit(language_model.make_step(graph, optimizer), donate_argnums=(0, 1))
    loss_of = jax.jit(lambda params, batch: language_model.cross_entropy(graph, params, batch))

    def bits(params: dict) -> float:
        windows = _held_out(held_out, preset.context)
        return float(np.mean([loss_of(params, batch) for batch in windows])) / math.log(2)

    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    yield f"{size:,} parameters, {len(read):,} bytes of {text}"
    state, rng, began = optimizer.init(params), np.random.default_rng(seed), time.process_time()
    for number in range(1, preset.num_steps + 1):
        batch = language_model.batch_of(
            read, rng, batch_size=preset.batch_size, context=preset.context
        )
        params, state, loss = step(params, state, jnp.asarray(batch))
        if number % report == 0 or number == preset.num_steps:
            minutes = (time.process_time() - began) / 60
            yield (
                f"step {number}: {bits(params):.3f} bits a byte held out, "
                f"{float(loss) / math.log(2):.3f} in training, {minutes:.1f} CPU minutes"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.language", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--text", choices=language_model.TEXTS, default="help-pages")
    parser.add_argument("--steps", type=positive, help="other than the preset's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    preset = preset._replace(num_steps=options.steps or preset.num_steps)
    try:
        for line in train(preset, options.text, seed=options.seed):
            print(line, flush=True)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
