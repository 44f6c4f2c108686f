"""What a watch and held norms add to a training step of MiniAlexNet and the small language model.

    python -m benchmarks.watching

Blocks of steps take turns; the ratio is that of a block to the plain block of the same round, its
median over the rounds. The second plain run says what the machine's noise is.
"""

import argparse
from typing import Any

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
LAST: dict[str, list[optax.GradientTransformationExtraArgs]] = {
    "plain": [],
    "plain, again": [],
    "watched, every=10": [sr.watch_spectra(METRICS, every=10)],
    "watched, every=100": [sr.watch_spectra(METRICS, every=100)],
    "norms held": [sr.hold_norms()],
    "largest singular values held": [sr.hold_norms("spectral")],
}


def mini_alexnet(last: list) -> Run:
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

    return timed(one)


def small_language_model(last: list) -> Run:
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

    return timed(one)


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
        runs = {name: NETWORKS[network](LAST[name]) for name in names}
        seconds = in_turns(runs, options.rounds, options.steps)
        for name, times in seconds.items():
            print(f"{network:21} {name:29} {told(times, seconds['plain'])}", flush=True)


if __name__ == "__main__":
    keep_freed()
    main()
