"""A training step of MiniAlexNet: against PyTorch, against its floor, and where its time goes.

    python -m benchmarks.training [--batch-sizes 32,128] [--rounds 7]

Both train the same network from random weights on random images, on all cores, in blocks of steps
that take turns; a ratio is the median over the rounds. The floor is the step's multiplications at
the rate of a large float32 matrix product, measured in the same rounds: no implementation that
multiplies in float32 is faster, short of Winograd's trick. The parts are timed each alone, forward
and backward, and need not add up to the step.

With an accelerator it also prints the vmapped ensemble against the same seeds one after the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.turns import Run, in_turns, timed
from examples.training.config import Config
from examples.training.data import Dataset
from examples.training.memory import keep_freed
from examples.training.mini_alexnet import FLOPS, chunked, max_pool, quick
from examples.training.penalties import make_optimizer
from examples.training.steps import State, initial, make_step
from examples.training.training import train, train_ensemble

SIDE = 2048


def our_step(config: Config, images: np.ndarray, labels: np.ndarray) -> Run:
    """The step of the examples."""
    graph, params, batch_stats = initial(config)
    optimizer = make_optimizer(config)
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    state = State(params, batch_stats, optimizer.init(params))
    on_device = jnp.asarray(images), jnp.asarray(labels)
    batch = np.arange(config.batch_size, dtype=np.int32)

    def one() -> State:
        nonlocal state
        state, _ = step(state, *on_device, batch)
        return state

    return timed(one)


def torch_step(config: Config, images: np.ndarray, labels: np.ndarray) -> Run:
    """The same network, loss and optimizer in PyTorch."""
    import torch
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(3, 96, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 3, padding=1),
        nn.BatchNorm2d(96, eps=1e-3, momentum=0.01),
        nn.Conv2d(96, 256, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 3, padding=1),
        nn.BatchNorm2d(256, eps=1e-3, momentum=0.01),
        nn.Flatten(),
        nn.Linear(4096, 384),
        nn.ReLU(),
        nn.Linear(384, 192),
        nn.ReLU(),
        nn.Linear(192, 10),
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    size = config.batch_size
    inputs = torch.tensor(images[:size].transpose(0, 3, 1, 2).copy(), device=device)
    targets = torch.tensor(labels[:size], dtype=torch.long, device=device)
    optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, config.momentum)

    def one() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed(one)


def product() -> Run:
    """A matrix product whose time is a matter of arithmetic alone."""
    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE))
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    return timed(lambda: multiply(matrix))


def parts(config: Config) -> dict[str, Run]:
    """Pieces of the step, forward and backward, each alone."""
    size = config.batch_size
    key = jax.random.key(0)
    rngs = nnx.Rngs(0)

    def piece(layers: Sequence[nnx.Module], shape: tuple[int, ...], apply: Any, wrt: Any) -> Run:
        inputs = jax.random.normal(key, (size, *shape))
        graph, state = nnx.split(tuple(layers))

        @jax.jit
        def gradient(state: Any, inputs: jax.Array) -> Any:
            def total(state: Any, inputs: jax.Array) -> jax.Array:
                output = apply(nnx.merge(graph, state), inputs)
                return (output * output).sum()

            return jax.grad(total, wrt)(state, inputs)

        return timed(lambda: gradient(state, inputs))

    conv1, conv2 = (nnx.Conv(i, o, (5, 5), rngs=rngs) for i, o in ((3, 96), (96, 256)))
    dense = [nnx.Linear(i, o, rngs=rngs) for i, o in ((4096, 384), (384, 192), (192, 10))]
    norm = nnx.BatchNorm(96, use_running_average=False, rngs=rngs)

    def all_dense(layers: Any, x: jax.Array) -> jax.Array:
        for layer in layers:
            x = nnx.relu(layer(x))
        return x

    _, params, _ = initial(config)
    optimizer = make_optimizer(config)
    opt_state = optimizer.init(params)

    @jax.jit
    def update(grads: Any, opt_state: Any, params: Any) -> Any:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return {
        "convolution 1": piece([conv1], (28, 28, 3), lambda m, x: chunked(m[0], x), 0),
        "pool and norm 1": piece(
            [norm],
            (28, 28, 96),
            lambda m, x: m[0](chunked(lambda part: nnx.relu(max_pool(part)), x)),
            (0, 1),
        ),
        "convolution 2": piece(
            [conv2], (10, 10, 96), lambda m, x: chunked(partial(quick, m[0]), x), (0, 1)
        ),
        "dense layers": piece(dense, (4096,), all_dense, (0, 1)),
        "update": timed(lambda: update(params, opt_state, params)),
    }


def ensemble(config: Config, num_seeds: int) -> None:
    """Prints the time of an ensemble against its runs one by one, compilation left out."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(config.train_size, 28, 28, 3)).astype(np.float32)
    labels = rng.integers(10, size=config.train_size).astype(np.int32)
    dataset = Dataset(images, labels, images[:256], labels[:256])
    configs = [dataclasses.replace(config, seed=seed) for seed in range(num_seeds)]

    def seconds(run: Callable[[int], object]) -> float:
        times = []
        for epochs in (1, 3):
            start = time.perf_counter()
            run(epochs)
            times.append(time.perf_counter() - start)
        return (times[1] - times[0]) / 2

    def longer(epochs: int) -> list[Config]:
        return [dataclasses.replace(each, epochs=epochs) for each in configs]

    together = seconds(lambda epochs: train_ensemble(longer(epochs), dataset))
    alone = seconds(lambda epochs: [train(each, dataset) for each in longer(epochs)])
    print(
        f"{num_seeds} seeds, b = {config.batch_size}: an epoch of all takes {together:.2f} s as an"
        f" ensemble and {alone:.2f} s one by one, {alone / together:.1f} times as long"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", default="8,32,128,500")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5, help="of the ensemble")
    options = parser.parse_args()
    import torch

    device = jax.devices()[0].device_kind
    print(f"MiniAlexNet on {device}, jax {jax.__version__}, torch {torch.__version__}")
    rng = np.random.default_rng(0)
    for size in map(int, options.batch_sizes.split(",")):
        config = Config("digits", max(size, 1536), 256, size, epochs=1)
        images = rng.normal(size=(size, 28, 28, 3)).astype(np.float32)
        labels = rng.integers(10, size=size).astype(np.int32)
        runs = {
            "step": our_step(config, images, labels),
            "step in PyTorch": torch_step(config, images, labels),
            "product": product(),
        } | parts(config)
        seconds = in_turns(runs, options.rounds, steps=max(2, 64 // size))
        rate = 2 * SIDE**3 / seconds["product"].min()
        floor = size * FLOPS / rate
        step = seconds["step"]
        low, middle, high = np.quantile(seconds["step in PyTorch"] / step, (0.25, 0.5, 0.75))
        print(f"\nb = {size}: {np.median(step) * 1e3:.1f} ms a step")
        print(f"  PyTorch takes {middle:.2f} times as long ({low:.2f} to {high:.2f})")
        print(
            f"  the floor is {floor * 1e3:.1f} ms at {rate / 1e9:.0f} GFLOP/s:"
            f" the step takes {np.median(step) / floor:.2f} times that"
        )
        for name in list(runs)[3:]:
            share = np.median(seconds[name]) / np.median(step)
            print(f"  {name:16} {np.median(seconds[name]) * 1e3:8.1f} ms  {share:5.0%}")
    if jax.default_backend() != "cpu":
        for size in (500, 32, 8):
            ensemble(Config("digits", 8000, 256, size, epochs=1), options.seeds)


if __name__ == "__main__":
    keep_freed()
    main()
