"""Tasks on threads, or on whatever executor is given."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from .._cores import num_cores

# What the tasks on our own threads may take together; one that takes more runs alone.
MEMORY = 2**30
# From here on a task that runs alone gains by all the cores.
PARALLEL = 2**26

Task = TypeVar("Task")
Result = TypeVar("Result")


def run(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    executor: Executor | None = None,
    num_bytes: Callable[[Task], int] = lambda task: 0,
) -> Iterator[tuple[Task, Result]]:
    """Yields each task with its result as they are finished.

    Args:
        function: Picklable, as are the tasks and results, if the executor is of other processes.
        tasks: What it is called with.
        executor: Gets all tasks at once. None takes a thread for each core that this process may
            use; then the tasks in hand take no more than ``MEMORY`` together, and a large one that
            no other can run beside gets all cores for its linear algebra.
        num_bytes: About how much memory a task takes.

    Raises:
        Exception: What a task raised first; those that have not begun are cancelled.
    """
    if executor is not None:
        yield from _collect(executor, function, tasks)
        return
    # threadpoolctl lets this thread alone set how many BLAS has, so what runs alone runs here.
    is_lone = [len(tasks) == 1 or num_bytes(task) > MEMORY for task in tasks]
    lone = [task for task, alone in zip(tasks, is_lone, strict=True) if alone]
    together = [task for task, alone in zip(tasks, is_lone, strict=True) if not alone]
    gate = _Gate(MEMORY)

    def within_memory(task: Task) -> Result:
        with gate.hold(num_bytes(task)):
            return function(task)

    # BLAS starts a thread for each core in each of ours; they wait for one another, actively. On
    # two busy cores eight 1200 x 600 matrices took 18 s instead of 1.4, even one at a time.
    with threadpool_limits(1, user_api="blas"):
        if (num_threads := min(num_cores(), len(together))) <= 1:
            yield from ((task, function(task)) for task in together)
        else:
            with ThreadPoolExecutor(num_threads) as threads:
                yield from _collect(threads, within_memory, together)
    for task in lone:
        with threadpool_limits(num_cores() if num_bytes(task) >= PARALLEL else 1, user_api="blas"):
            result = function(task)
        yield task, result


def _collect(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Result]]:
    futures: dict[Future[Result], Task] = {}
    try:
        for task in tasks:
            futures[executor.submit(function, task)] = task
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


class _Gate:
    """Lets tasks in while they take no more than a limit together, and any one alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + amount <= self._limit)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
