"""Steps timed in blocks that take turns, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

Run = Callable[[int], float]


def timed(step: Callable[[], Any]) -> Run:
    """Gives a function that runs some steps and tells the seconds of one."""

    def run(number: int) -> float:
        start = time.perf_counter()
        for _ in range(number):
            result = step()
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / number

    run(2)
    return run


def in_turns(runs: Mapping[str, Run], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Seconds of a step of each, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with tqdm(total=rounds * len(runs), unit="block", leave=False) as bar:
        for _ in range(rounds):
            for name, run in runs.items():
                seconds[name].append(run(steps))
                bar.update()
    return {name: np.array(times) for name, times in seconds.items()}


def told(seconds: np.ndarray, base: np.ndarray) -> str:
    """The median of a step, its ratio to another's in the same rounds, and that one's quartiles."""
    low, middle, high = np.quantile(seconds / base, (0.25, 0.5, 0.75))
    median = np.median(seconds) * 1e3
    return f"{median:8.1f} ms a step, ratio {middle:.3f} ({low:.3f} to {high:.3f})"
