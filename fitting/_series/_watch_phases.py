"""Phases and fitted alphas of a run while it trains, measured in a thread of its own."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

import spectral_reg as sr
from spectral_reg._axes_argument import Axes

from ._follow import assemble, measure_step, open_kept
from ._series import Series
from ._steps import Checkpoint


class PhaseWatch:
    """Measures the weights that it is called with, while training goes on.

    Attributes:
        missed: The steps whose weights were not taken, as those before were not done yet.
    """

    def __init__(self, out: str | Path | None, num_threads: int, options: dict[str, Any]) -> None:
        self.missed: list[int] = []
        self._out, self._options = out, options
        self._kept = open_kept(out, options, resume=False)
        # One thread takes the steps in turn; the others have the matrices of one step.
        self._steps = ThreadPoolExecutor(1, "phases")
        self._matrices = ThreadPoolExecutor(num_threads, "matrices")
        self._measured: list[tuple[int, Future]] = []

    def __call__(self, step: int, params: Any, *, wait: bool = False) -> bool:
        """Takes a copy of the weights to be measured, and returns at once.

        Args:
            step: Its number, larger than the last.
            params: The parameters, as for :func:`evaluate`: a tree of arrays. The copy is made on
                the device, so that the step that follows may donate them.
            wait: Whether to wait for the last to be measured rather than miss this step, such as
                the end of a run.

        Returns:
            Whether they are taken: not while the last are still being measured.

        Raises:
            ValueError: If the step is not larger than the last one.
            Exception: What measuring the weights before raised.
        """
        if self._measured:
            last, future = self._measured[-1]
            if step <= last:
                raise ValueError(f"step is {step} after {last}; expected a larger number")
            if not wait and not future.done():
                self.missed.append(step)
                return False
            future.result()
        copy = jax.tree.map(
            lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array) else np.array(leaf), params
        )
        self._measured.append((step, self._steps.submit(self._measure, Checkpoint(step, copy))))
        return True

    def series(self) -> Series:
        """What :func:`follow` gives of the weights so far, after waiting for the last.

        Raises:
            ValueError: If fewer than two steps were watched.
            Exception: What measuring the weights raised.
        """
        if len(self._measured) < 2:
            steps = [step for step, _ in self._measured]
            raise ValueError(f"the steps watched are {steps}; expected at least two")
        done = [future.result() for _, future in self._measured]
        rows = [row for of_step, _ in done for row in of_step]
        skipped = [row for _, of_step in done for row in of_step]
        return assemble(rows, skipped, out=self._out, conv=self._options["conv"])

    def close(self) -> None:
        """Ends the threads, once what they have taken is measured."""
        self._steps.shutdown()
        self._matrices.shutdown()

    def __enter__(self) -> "PhaseWatch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _measure(self, checkpoint: Checkpoint) -> tuple[list, list]:
        # The threads of a linear algebra library would wait for those of the training, actively.
        with threadpool_limits(1, user_api="blas"):
            return measure_step(checkpoint, self._kept, executor=self._matrices, **self._options)


def watch_phases(
    *,
    out: str | Path | None = None,
    conv: str | sr.ConvOperator = "slices",
    layers: Sequence[str] | None = None,
    axes: Axes = None,
    num_bootstrap: int = 0,
    num_threads: int = 1,
) -> PhaseWatch:
    """Follows phases and fitted alphas of a training from inside its loop, without waiting.

    What :func:`follow` measures of checkpoints, of the weights themselves, in threads beside the
    training. Where they are not done when it is called again it takes nothing, so training never
    waits, whatever the fits take.

    Args:
        out: Folder that gets the series and a file for each matrix, as for :func:`follow`.
        conv: As for :func:`evaluate`.
        layers: As for :func:`evaluate`: to watch some of a large model.
        axes: As for :func:`evaluate`.
        num_bootstrap: As for :func:`follow`; 0, the default, leaves out the p-values, which take
            most of the time.
        num_threads: How many matrices of a step are measured at once.

    Returns:
        A :class:`PhaseWatch`, to be called with a step and its parameters.

    Raises:
        ValueError: If ``num_bootstrap`` < 0 or ``num_threads`` < 1.

    Example:
        >>> import jax.numpy as jnp, numpy as np, fitting
        >>> W = np.random.default_rng(0).normal(size=(80, 60))
        >>> with fitting.watch_phases() as phases:
        ...     for step in (0, 100):
        ...         params = {"fc": {"kernel": jnp.asarray((1 + step) * W)}}
        ...         taken = phases(step, params, wait=True)
        ...     phases.series()
        Series of 1 matrices at 2 checkpoints, steps 0 to 100

    Cost: for the training the dispatch of a copy; on the host what :func:`evaluate` takes, which on
    a machine without an accelerator is taken from the training where it uses all cores.
    """
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; expected 0 or more")
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; expected 1 or more")
    options = {"conv": conv, "layers": layers, "axes": axes, "num_bootstrap": num_bootstrap}
    return PhaseWatch(out, num_threads, options)
