"""Whether a floor under the stable rank holds where AdamW's rate collapses it, and its cost.

    python -m benchmarks.floor

The floor stands before AdamW. Steps are timed by the processor's time, in blocks that take turns.
"""

import argparse
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from benchmarks.turns import in_turns
from examples.training.language_model import batch_of, initial, make_step, texts

RATE = 1e-2
LEAST = 8.0
BLOCKS = sr.by_path("blocks/*")
FLOOR = sr.hinge(sr.log_stable_rank, below=math.log(LEAST))
# The first steps, in which the floor is reached.
START = 100


@jax.jit
def stable_ranks(params: dict) -> jax.Array:
    """Of every matrix of the blocks, exact."""
    return jnp.stack([v.sum() / v.max() for v in sr.layer_spectra(params, mask=BLOCKS).values()])


def chain(strength: float) -> optax.GradientTransformation:
    """AdamW, with a floor or, at strength 0, without."""
    if not strength:
        return optax.adamw(RATE)
    floor = sr.add_spectral_penalty(FLOOR, strength, tracking="warm", mask=BLOCKS)
    return optax.chain(floor, optax.adamw(RATE))


class Training:
    """A training that goes on from where it is."""

    def __init__(self, strength: float) -> None:
        graph, self.params = initial(num_blocks=2)
        optimizer = chain(strength)
        self.step = jax.jit(make_step(graph, optimizer))
        self.state: Any = optimizer.init(self.params)
        self.text, self.rng = texts()[0], np.random.default_rng(0)

    def __call__(self) -> jax.Array:
        """Takes a step and gives its loss."""
        batch = batch_of(self.text, self.rng)
        self.params, self.state, loss = self.step(self.params, self.state, batch)
        return loss

    def processor_time(self, number: int) -> float:
        """Seconds of one of some steps, on all cores together."""
        start = time.process_time()
        for _ in range(number):
            loss = self()
        loss.block_until_ready()
        return (time.process_time() - start) / number


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    options = parser.parse_args()
    runs = {}
    for strength in (0.0, *options.strengths):
        training, losses, ranks = Training(strength), [], []
        for number in range(1, options.steps + 1):
            losses.append(float(training()))
            if number % 10 == 0:
                ranks.append(np.asarray(stable_ranks(training.params)))
        print(
            f"strength {strength:g}: least stable rank {np.min(ranks[START // 10 :]):.1f} after "
            f"step {START}, {ranks[-1].min():.1f} at the end, where {(ranks[-1] < LEAST).sum()} of "
            f"{ranks[-1].size} matrices are below {LEAST:g}; loss {np.mean(losses[-50:]):.2f}",
            flush=True,
        )
        runs[f"{strength:g}"] = training.processor_time
    times = in_turns(runs, options.rounds, 5)
    for name, seconds in times.items():
        low, middle, high = np.quantile(seconds / times["0"], (0.25, 0.5, 0.75))
        print(f"strength {name}: processor time {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
