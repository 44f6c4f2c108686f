"""Whether `cap_spectral_norm` holds over a training of the small language model, and its cost.

    python -m benchmarks.caps --steps 1000

Each optimizer trains without a cap, which says where its rate carries the largest singular values;
and with one, where every matrix is decomposed after every step. Then steps with and without it are
timed in blocks that take turns, at the weights that the trainings ended with.
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from benchmarks.turns import Run, in_turns, timed, told
from examples.training.language_model import batch_of, initial, make_step, texts
from examples.training.memory import keep_freed

# Rates that carry the largest singular value past four times the bound in 1,000 steps.
OPTIMIZERS = {"AdamW": optax.adamw(3e-3), "Muon": optax.contrib.muon(2e-2)}
BOUND = 3.0  # what the largest of the initial weights have
CAPS: dict[str, dict[str, Any]] = {
    "warm": {},
    "exact": {"tracking": "exact"},
    "soft": {"soft": True},
}


class End(NamedTuple):
    """Where a training ended.

    Attributes:
        loss: Mean of its last 50 losses.
        largest: The largest singular value after any step, over all matrices.
        share: Of the singular values of all matrices, at the end, those within 1e-3 of the bound.
    """

    loss: float
    largest: float
    share: float


def chain(name: str, cap: str | None, bound: float) -> optax.GradientTransformation:
    """An optimizer, capped or not."""
    if cap is None:
        return OPTIMIZERS[name]
    return optax.chain(OPTIMIZERS[name], sr.cap_spectral_norm(bound, **CAPS[cap]))


def train(
    optimizer: optax.GradientTransformation, bound: float, num_steps: int
) -> tuple[End, dict, Any]:
    """Trains, and gives the end, the parameters and the optimizer's state."""
    graph, params = initial()
    step = jax.jit(make_step(graph, optimizer), donate_argnums=(0, 1))

    @jax.jit
    def top(params: dict) -> jax.Array:
        return jnp.max(jnp.stack([jnp.max(n) for n in sr.layer_norms(params, "spectral").values()]))

    state, (text, _), rng = optimizer.init(params), texts(), np.random.default_rng(0)
    losses, largest = [], 0.0
    for _ in range(num_steps):
        params, state, loss = step(params, state, batch_of(text, rng))
        losses.append(float(loss))
        largest = max(largest, float(top(params)))
    sizes = np.concatenate([np.ravel(s) for s in sr.layer_spectra(params).values()]) ** 0.5
    share = float(np.mean(sizes > bound * (1 - 1e-3)))
    return End(float(np.mean(losses[-50:])), largest, share), params, state


def prepare(optimizer: optax.GradientTransformation, params: dict, state: Any) -> Run:
    """A function that goes on from there for some steps and gives the seconds of one."""
    graph, _ = initial()
    step = jax.jit(make_step(graph, optimizer))
    text, rng = texts()[0], np.random.default_rng(1)

    def one() -> Any:
        nonlocal params, state
        params, state, loss = step(params, state, batch_of(text, rng))
        return loss

    return timed(one)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bound", type=float, default=BOUND)
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=[*OPTIMIZERS])
    parser.add_argument("--caps", nargs="+", choices=CAPS, default=[*CAPS])
    options = parser.parse_args()
    print(f"small language model, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for name in options.optimizers:
        runs: dict[str, Run] = {}
        for cap in (None, *options.caps):
            optimizer = chain(name, cap, options.bound)
            end, params, state = train(optimizer, options.bound, options.steps)
            print(
                f"{name}, {options.steps} steps, cap {cap or 'none':6}: loss {end.loss:.3f}, "
                f"sigma_max at most {end.largest / options.bound:.6f} of the bound, "
                f"{end.share:.1%} of the singular values at it",
                flush=True,
            )
            runs[cap or "none"] = prepare(optimizer, params, state)
        seconds = in_turns(runs, options.rounds, 4)
        for cap, times in seconds.items():
            print(f"{name}, cap {cap:6}: {told(times, seconds['none'])}", flush=True)


if __name__ == "__main__":
    keep_freed()
    main()
