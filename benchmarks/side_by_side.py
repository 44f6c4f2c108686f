"""Images a second of one run on all cores, against one run on each core side by side.

    python -m benchmarks.side_by_side [--batch-sizes 8,32,128] [--rounds 5] [--seconds 4]

MiniAlexNet on random images, the step of the experiments. The two ways take turns; a ratio is the
median over the rounds, with its quartiles. Images per second of processor time tell the same where
other work has a part of the machine: a run that waits for its own threads uses none while it does,
so that they leave such waits out.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np


def work(core: int | None, size: int) -> None:
    """Trains for as many seconds as each line of the input says; tells images and CPU seconds."""
    if core is not None:
        # Before JAX counts the cores.
        os.sched_setaffinity(0, {core})
    import jax
    import jax.numpy as jnp

    from examples.training.config import Config
    from examples.training.memory import keep_freed
    from examples.training.penalties import make_optimizer
    from examples.training.steps import State, initial, make_step

    keep_freed()
    config = Config("cifar10", max(size, 1000), 10, size, epochs=1)
    graph, params, batch_stats = initial(config)
    optimizer = make_optimizer(config)
    step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
    state = State(params, batch_stats, optimizer.init(params))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(config.train_size, 28, 28, 3)).astype(np.float32))
    labels = jnp.asarray(rng.integers(10, size=config.train_size).astype(np.int32))
    batch = np.arange(size, dtype=np.int32)

    def train(seconds: float) -> tuple[int, float, float]:
        nonlocal state
        before = resource.getrusage(resource.RUSAGE_SELF)
        start, number = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            state, totals = step(state, images, labels, batch)
            totals.loss.block_until_ready()
            number += size
        took = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return number, took, used

    train(1.0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(*train(float(line)), flush=True)


class Workers:
    """Processes that train at the same time."""

    def __init__(self, cores: Sequence[int | None], size: int):
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.side_by_side", "--work", str(size)]
                + ([] if core is None else ["--core", str(core)]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for core in cores
        ]
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a worker ended; expected it to train; see its error above")

    def rates(self, seconds: float) -> tuple[float, float]:
        """Images a second of all together, and images per second of processor time."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        rate, images, used = 0.0, 0.0, 0.0
        for process in self._processes:
            assert process.stdout is not None
            number, took, cpu = map(float, process.stdout.readline().split())
            rate, images, used = rate + number / took, images + number, used + cpu
        return rate, images / used

    def stop(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.communicate()


def compare(size: int, rounds: int, seconds: float) -> str:
    """One line of the table."""
    cores = sorted(os.sched_getaffinity(0))
    ways: list[Sequence[int | None]] = [[None], cores]
    several = [Workers(way, size) for way in ways]
    measured = np.array([[way.rates(seconds) for way in several] for _ in range(rounds)])
    for way in several:
        way.stop()
    one, side = np.median(measured[:, :, 0], axis=0)
    ratios = measured[:, 1] / measured[:, 0]
    (low, middle, high), (_, per_cpu, _) = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0).T
    return (
        f"b = {size:4}: {one:6.0f} images/s on {len(cores)} cores, {side:6.0f} by {len(cores)}"
        f" runs, {middle:.2f} times as many ({low:.2f} to {high:.2f}); {per_cpu:.2f} times per CPU"
        " second"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-sizes", default="8,32,128")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.core, options.work)
        return
    for size in map(int, options.batch_sizes.split(",")):
        print(compare(size, options.rounds, options.seconds), flush=True)


if __name__ == "__main__":
    main()
