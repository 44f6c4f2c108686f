"""How close tracked spectra stay to the exact ones while MiniAlexNet trains.

    python -m benchmarks.tracking --data-dir FOLDER [--runs 0,1,2,3,4,5]

Trains 1,000 steps on CIFAR-10 at b = 32 with the penalty on FC1 and FC2. At every 10th step the
tracked value and gradient are compared with the exact ones of the same weights; with ``every=n``
these are steps that recompute, and the steps before them, whose gradient has been held the longest,
have columns of their own. Then, where alpha is among the runs, exact ones, with the same and with
two other orders of the images, say what a difference at the end means.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import fitting
import spectral_reg as sr
from examples.training import data, networks
from examples.training.config import Config
from examples.training.measures import eigenvalues
from examples.training.memory import keep_freed
from examples.training.steps import State, initial, make_step

# What is added to the loss: enough to move the spectrum, not so much that it decides everything.
LAYERS = tuple(networks.LAYERS["mini_alexnet"])
METRICS = {
    "alpha": (sr.alpha, 0.02),
    "log_stable_rank": (sr.log_stable_rank, 0.1),
    "spectral_norm": (sr.spectral_norm, 0.01),
    "top tenth": (sr.spectral_metric(sr.smooth_hill(low=0.02, high=0.1)), 0.02),
}
RUNS = [
    ("alpha", {"tracking": "warm"}),
    ("alpha", {"tracking": "warm", "every": 2}),
    ("alpha", {"tracking": "warm", "every": 5}),
    ("log_stable_rank", {"tracking": "warm"}),
    ("spectral_norm", {"tracking": "warm"}),
    ("top tenth", {"tracking": "tail"}),
]


def layer_mask(layer: str) -> Any:
    """A mask of one layer's kernel."""
    return sr.by_path(f"{layer}/kernel")


def train(
    name: str, options: dict[str, Any], dataset: data.Dataset, num_steps: int, order: int
) -> tuple[dict[str, np.ndarray], dict[str, list[list[tuple[float, float]]]]]:
    """Trains, and gives the last spectra and, by layer, the errors and cosines on the way.

    Two lists a layer: of steps that recompute, and of the last ones that hold.
    """
    metric, strength = METRICS[name]
    config = Config("cifar10", len(dataset.train_images), 1, 32, epochs=1)
    graph, params, batch_stats = initial(config)
    # One transformation a layer: each state then holds one layer's value.
    penalties = [
        sr.add_spectral_penalty(metric, strength, mask=layer_mask(layer), **options)
        for layer in LAYERS
    ]
    optimizer = optax.chain(*penalties, optax.sgd(config.learning_rate, momentum=config.momentum))
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    exact = jax.jit(jax.value_and_grad(metric))
    alone = [jax.jit(penalty.update) for penalty in penalties]
    images, labels = jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels)
    state = State(params, batch_stats, optimizer.init(params))
    rng = np.random.default_rng(order)
    compared: dict[str, list[list[tuple[float, float]]]] = {layer: [[], []] for layer in LAYERS}
    for count in tqdm(range(num_steps), desc=f"{name} {options}", leave=False):
        is_held = count % 10 == 9 and "every" in options
        if (count % 10 == 0 or is_held) and "tracking" in options:
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            for layer, update, held in zip(LAYERS, alone, state.opt_state, strict=False):
                updates, after = update(zeros, held, state.params)
                value, gradient = exact(state.params[layer]["kernel"])
                tracked = updates[layer]["kernel"]
                cosine = jnp.vdot(tracked, gradient) / (
                    jnp.linalg.norm(tracked) * jnp.linalg.norm(gradient)
                )
                compared[layer][is_held].append((float(after.penalty - value), float(cosine)))
        batch = rng.integers(len(images), size=32, dtype=np.int32)
        state, _ = step(state, images, labels, batch)
    spectra = {layer: eigenvalues(state.params[layer]["kernel"]) for layer in LAYERS}
    return spectra, compared


def main() -> None:
    """Prints the errors on the way, and the spectra at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", default=",".join(map(str, range(len(RUNS)))))
    options = parser.parse_args()
    dataset = data.load("cifar10", options.data_dir, test_size=1)
    ends = {}
    print(f"{'':43}{'recomputed':>19}{'held':>19}")
    print(f"{'metric':17}{'options':20}{'layer':6}" + f"{'error':>9}{'cosine':>10}" * 2)
    for name, settings in (RUNS[int(number)] for number in options.runs.split(",")):
        end, compared = train(name, settings, dataset, options.steps, order=0)
        label = ", ".join(str(value) for value in settings.values())
        if name == "alpha":
            ends[label] = end
        for layer, kinds in compared.items():
            cells = ""
            for pairs in filter(None, kinds):
                errors, cosines = np.array(pairs).T
                cells += f"{np.abs(errors).max():9.1e}{cosines.min():10.5f}"
            print(f"{name:17}{label:20}{layer:6}{cells}", flush=True)
    if not ends:
        return
    for order in range(3):
        label = f"exact, order {order}" if order else "exact"
        ends[label], _ = train("alpha", {}, dataset, options.steps, order)
    print(f"\nalpha after {options.steps} steps   {'smooth_hill':>24}{'fitted (CSN)':>24}")
    for label, end in ends.items():
        smooth = [float(sr.smooth_hill()(end[layer].astype(np.float32))) for layer in LAYERS]
        fitted = [fitting.fit_power_law(end[layer]).alpha for layer in LAYERS]
        cells = (" ".join(f"{value:11.4f}" for value in values) for values in (smooth, fitted))
        print(f"{label:24}", *cells)


if __name__ == "__main__":
    keep_freed()
    main()
