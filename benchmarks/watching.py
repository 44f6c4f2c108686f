"""What a watch and held norms add to a training step of MiniAlexNet and the small language model.

    python -m benchmarks.watching

Blocks of steps take turns; the ratio is that of a block to the plain block of the same round, its
median over the rounds. The second plain run says what the machine's noise is. What costs less than
that is told by the second table: each update alone, at a step at which it is due and at one at
which it is not, and what that makes of a plain step.
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from benchmarks.turns import Run, in_turns, timed, told
from examples.training import data, language_model
from examples.training.config import Config
from examples.training.memory import keep_freed
from examples.training.steps import State, initial, make_step

METRICS = [sr.alpha, sr.stable_rank]
RANKS = [sr.stable_rank, sr.spectral_norm]
LAST: dict[str, list[optax.GradientTransformationExtraArgs]] = {
    "plain": [],
    "plain, again": [],
    "watched, every=10": [sr.watch_spectra(METRICS, every=10)],
    "watched, every=100": [sr.watch_spectra(METRICS, every=100)],
    "ranks watched, warm, every=10": [sr.watch_spectra(RANKS, every=10, tracking="warm")],
    "norms held": [sr.hold_norms()],
    "largest singular values held": [sr.hold_norms("spectral")],
}
EVERY = {name: int(name.partition("every=")[2] or 1) for name in LAST}


class Training(NamedTuple):
    """Steps of a network, and its first parameters."""

    run: Run
    params: Any


def mini_alexnet(last: list) -> Training:
    """Steps on CIFAR-10-sized digits at b = 32."""
    config = Config("digits", 1536, 261, 32, epochs=1)
    graph, params, batch_stats = initial(config)
    optimizer = optax.chain(optax.sgd(config.learning_rate, momentum=config.momentum), *last)
    dataset = data.load(config.data)
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels)
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    state, rng = State(params, batch_stats, optimizer.init(params)), np.random.default_rng(0)

    def one() -> Any:
        nonlocal state
        state, totals = step(state, images, labels, rng.integers(len(images), size=32))
        return totals

    return Training(timed(one), initial(config)[1])


def small_language_model(last: list) -> Training:
    """Steps of AdamW."""
    graph, params = language_model.initial()
    optimizer = optax.chain(optax.adamw(1e-3), *last)
    step = jax.jit(language_model.make_step(graph, optimizer), donate_argnums=(0, 1))
    text, rng = language_model.texts()[0], np.random.default_rng(0)
    state = optimizer.init(params)

    def one() -> Any:
        nonlocal params, state
        params, state, loss = step(params, state, language_model.batch_of(text, rng))
        return loss

    return Training(timed(one), language_model.initial()[1])


def alone(last: optax.GradientTransformationExtraArgs, params: Any, every: int) -> dict[str, Run]:
    """The update by itself, when due and when not.

    Only what it changes is computed: a watch hands on the updates as they are.
    """
    updates = jax.tree.map(lambda leaf: 1e-4 * leaf, params)

    @jax.jit
    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        new, state = last.update(updates, state, params)
        return (new if every == 1 else None), state

    # The first step starts what is tracked; all later ones have it.
    ended = update(updates, update(updates, last.init(params), params)[1], params)[1]
    if every == 1:
        return {"due": timed(lambda: update(updates, ended, params))}
    at = {"due": ended._replace(count=jnp.zeros_like(ended.count)), "not due": ended}
    return {
        name: timed(lambda state=state: update(updates, state, params))  # type: ignore[misc]
        for name, state in at.items()
    }


NETWORKS = {"MiniAlexNet": mini_alexnet, "small language model": small_language_model}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="a block; a multiple of every=n")
    parser.add_argument("--last", nargs="+", choices=LAST, default=[*LAST])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    for network in options.networks:
        names = dict.fromkeys(["plain", *options.last])
        trainings = {name: NETWORKS[network](LAST[name]) for name in names}
        runs = {name: training.run for name, training in trainings.items()}
        seconds = in_turns(runs, options.rounds, options.steps)
        for name, times in seconds.items():
            print(f"{network:21} {name:29} {told(times, seconds['plain'])}", flush=True)
        plain, params = np.median(seconds["plain"]), trainings["plain"].params
        for name in [name for name in names if LAST[name]]:
            times = in_turns(
                alone(LAST[name][0], params, EVERY[name]), options.rounds, options.steps
            )
            due, not_due = (np.median(times.get(k, times["due"])) for k in ("due", "not due"))
            share = (due + (EVERY[name] - 1) * not_due) / EVERY[name] / plain
            print(
                f"{network:21} {name:29} alone {due * 1e3:6.2f} ms when due, "
                f"{not_due * 1e3:.2f} else: {share:.2%} of a plain step",
                flush=True,
            )


if __name__ == "__main__":
    keep_freed()
    main()
