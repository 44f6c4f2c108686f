"""How many threads are worth starting."""

import os


def num_cores() -> int:
    """The cores that this process may use, which a cluster or a container may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
