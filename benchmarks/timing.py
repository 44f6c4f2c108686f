"""How long a call takes."""

import time
from collections.abc import Callable


def best_time(function: Callable[[], object], repeats: int = 20) -> float:
    """Shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
