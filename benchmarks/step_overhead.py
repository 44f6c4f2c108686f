"""What a spectral penalty adds to a training step of MiniAlexNet.

    python -m benchmarks.step_overhead --batch-size 32

Every setting trains the same network, FC1 and FC2 penalized, in blocks of the same number of steps
that take turns; the ratio is that of a block to the block without a penalty in the same round, its
median over the rounds. The pair of two runs without a penalty says what the machine's noise is.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from benchmarks.spectrum import naive_alpha, tracking_products
from benchmarks.turns import Run, in_turns, timed
from examples.training import data, networks
from examples.training.config import Config
from examples.training.memory import keep_freed
from examples.training.steps import State, initial, make_step

LAYERS = tuple(networks.LAYERS["mini_alexnet"])
MASK = sr.by_path(*(f"{layer}/kernel" for layer in LAYERS))
STRENGTH = 1e-3


def products_alone() -> optax.GradientTransformation:
    """What tracking multiplies, and nothing else: the floor of a warm alpha."""

    def init(params: Any) -> dict[str, jax.Array]:
        return {layer: jnp.eye(min(params[layer]["kernel"].shape)) for layer in LAYERS}

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates = dict(updates)
        for layer in LAYERS:
            product = tracking_products(params[layer]["kernel"], state[layer])
            updates[layer] = dict(updates[layer])
            # So small that it changes nothing, and yet has to be computed.
            updates[layer]["kernel"] = updates[layer]["kernel"] + 1e-30 * product
        return updates, state

    return optax.GradientTransformation(init, update)


SETTINGS: dict[str, tuple[Any, dict[str, Any]] | None] = {
    "no penalty": None,
    "no penalty, again": None,
    "products of warm alpha alone": (products_alone, {}),
    "log_stable_rank, warm": (sr.log_stable_rank, {"tracking": "warm"}),
    "spectral_norm, warm": (sr.spectral_norm, {"tracking": "warm"}),
    "alpha, warm, every=5": (sr.alpha, {"tracking": "warm", "every": 5}),
    "alpha, warm, every=2": (sr.alpha, {"tracking": "warm", "every": 2}),
    "alpha, every=10": (sr.alpha, {"every": 10}),
    "alpha, warm": (sr.alpha, {"tracking": "warm"}),
    "log_stable_rank": (sr.log_stable_rank, {}),
    "alpha": (sr.alpha, {}),
    "power_law_distance": (sr.power_law_distance(3.0), {}),
    "power_law_distance, warm": (sr.power_law_distance(3.0), {"tracking": "warm"}),
    "top tenth, tail": (
        sr.spectral_metric(sr.smooth_hill(low=0.02, high=0.1)),
        {"tracking": "tail"},
    ),
    "alpha, autodiff through svd": (naive_alpha, {}),
}


def prepare(setting: tuple[Any, dict[str, Any]] | None, config: Config) -> Run:
    """A function that runs some steps and gives the seconds one took."""
    graph, params, batch_stats = initial(config)
    sgd = optax.sgd(config.learning_rate, momentum=config.momentum)
    if setting is None:
        optimizer = sgd
    else:
        metric, options = setting
        if metric is products_alone:
            penalty = products_alone()
        else:
            penalty = sr.add_spectral_penalty(metric, STRENGTH, mask=MASK, **options)
        optimizer = optax.chain(penalty, sgd)
    dataset = data.load(config.data)
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels)
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    state = State(params, batch_stats, optimizer.init(params))
    rng = np.random.default_rng(0)

    def one() -> State:
        nonlocal state
        batch = rng.integers(len(images), size=config.batch_size, dtype=np.int32)
        state, _ = step(state, images, labels, batch)
        return state

    return timed(one)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="a block; a multiple of every=n")
    options = parser.parse_args()
    config = Config("digits", 1536, 261, options.batch_size, epochs=1)
    runs = {name: prepare(setting, config) for name, setting in SETTINGS.items()}
    seconds = in_turns(runs, options.rounds, options.steps)
    base = seconds["no penalty"]
    device = jax.devices()[0].device_kind
    print(f"MiniAlexNet, b = {options.batch_size}, {device}, jax {jax.__version__}")
    print(
        f"{'penalty on FC1 and FC2':30} {'ms a step':>10} {'added ms':>9} {'ratio':>6}  (quartiles)"
    )
    for name, times in seconds.items():
        ratio = times / base
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        added = np.median(times - base)
        print(
            f"{name:30} {np.median(times) * 1e3:10.1f} {added * 1e3:9.1f} {middle:6.3f}"
            f"  ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    keep_freed()
    main()
