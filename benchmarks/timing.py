"""How long a call takes."""

import time
from collections.abc import Callable


def call_times(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def best_time(function: Callable[[], object], repeats: int = 20) -> float:
    """Shortest of several runs, in seconds."""
    return min(call_times(function, repeats))
