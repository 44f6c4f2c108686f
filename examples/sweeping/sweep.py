"""Runs the cells of an experiment, those that are not finished yet, wherever it is told to."""

import dataclasses
import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from examples.sweeping import cells
from examples.training import data
from examples.training.config import Config
from examples.training.states import Keeper, OutOfTime, place, saved_epochs
from examples.training.training import OnImages, train, train_ensemble

Found = dict[Config, cells.Cell[Config]]
# All runs of an experiment that are known from its finished cells, in the order of the report: an
# experiment whose later runs depend on the outcome of earlier ones names them when these are there.
Plan = Callable[[Mapping[Config, cells.Cell[Config]]], Sequence[Config]]
Job = tuple[Config, ...]

_load = functools.lru_cache(maxsize=2)(data.load)


def run_job(
    job: Job,
    data_dir: Path | None,
    norms: Sequence[np.ndarray] | None,
    on_images: OnImages = lambda num_images: None,
    *,
    folder: Path | None = None,
    deadline: float | None = None,
    keep_states: bool = False,
) -> list[cells.Cell[Config]]:
    """Trains one run, or several seeds of it as an ensemble.

    Args:
        job: The runs.
        data_dir: Folder of the data, on the machine that this is called on.
        norms: For norm-matched controls, those of the runs that they are the controls of.
        on_images: Told how many images were trained on.
        folder: Where the state is kept between epochs, and gone on from; nowhere if None.
        deadline: When `time.time` has come to it, to stop at the end of an epoch.
        keep_states: Whether the state of the finished run is kept too.

    Returns:
        The finished cells, not written yet.

    Raises:
        OutOfTime: The deadline has come; the state is kept.
    """
    config = job[0]
    dataset = _load(
        config.data,
        data_dir,
        train_size=config.train_size,
        test_size=config.test_size,
        validation_size=config.validation_size,
        scaling="unit" if config.network == "lenet5" else "standardized",
    )
    origin = cells.origin() | {"ensemble": len(job)}
    start = time.perf_counter()
    keeper = (
        Keeper(folder, job, origin, deadline=deadline, to_the_end=keep_states) if folder else None
    )
    # Steps one by one are fast on a CPU, and a scan over them on an accelerator.
    if len(job) == 1 and jax.default_backend() == "cpu":
        own = None if norms is None else norms[0]
        outcomes = [train(config, dataset, on_images, own, keeper=keeper)]
    else:
        outcomes = train_ensemble(job, dataset, on_images, norms, keeper=keeper)
    seconds = keeper.seconds if keeper else time.perf_counter() - start
    made = _together(keeper.origins if keeper else [origin])
    return [
        cells.Cell(each, outcome.metrics, outcome.arrays, seconds / len(job), made)
        for each, outcome in zip(job, outcomes, strict=True)
    ]


def _together(origins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The origin of what several processes trained in turn: the last, and what differed before."""
    return {
        key: ", ".join(dict.fromkeys(str(each[key]) for each in origins))
        if len({str(each[key]) for each in origins}) > 1
        else value
        for key, value in origins[-1].items()
    }


def jobs(configs: Iterable[Config], *, ensembles: bool | None = None) -> list[Job]:
    """Splits runs into jobs: one a run, or one for all seeds of a run.

    Args:
        configs: The runs.
        ensembles: Whether seeds train together; by default where JAX has an accelerator.
    """
    if ensembles is None:
        ensembles = jax.default_backend() != "cpu"
    if not ensembles:
        return [(config,) for config in configs]
    groups: dict[Config, list[Config]] = defaultdict(list)
    for config in configs:
        groups[dataclasses.replace(config, seed=0)].append(config)
    return [tuple(group) for group in groups.values()]


def complete(
    plan: Plan,
    folders: Sequence[Path],
    *,
    data_dir: Path | None = None,
    executor: Executor | None = None,
    ensembles: bool | None = None,
    to_come: Callable[[Found], int] = lambda found: 0,
    minutes: float | None = None,
    keep_states: bool = False,
) -> None:
    """Trains what is missing of an experiment, and writes every cell as soon as it is finished.

    A run that takes long keeps its state beside the cells until its cell is written.

    Args:
        plan: The experiment.
        folders: Where its cells are; new ones go to the first.
        data_dir: Folder of the data.
        executor: Where jobs are run; in this process, one by one, if there is none.
        ensembles: As for `jobs`.
        to_come: How many images the runs train on that are not known yet, for the estimate.
        minutes: Stops, at the end of an epoch, before so much time is over.
        keep_states: Keeps the states of finished runs, for longer ones to go on from.

    Raises:
        OutOfTime: The minutes are over, and something is left to train.
    """
    deadline = None if minutes is None else time.time() + 60 * minutes
    configs, found = known(plan, folders)
    if found:
        where = ", ".join(map(str, folders))
        print(f"{len(found)} of {len(configs)} cells are in {where} already", file=sys.stderr)
    done: set[Config] = set()
    with tqdm(unit="img", unit_scale=True, ncols=80, leave=False, smoothing=0.1) as bar:
        while missing := [config for config in configs if config not in found]:
            saved = sum(
                saved_epochs(folders[0], job) * config.num_steps * config.batch_size
                for job in jobs(missing, ensembles=ensembles)
                for config in job
            )
            to_train = sum(config.num_images for config in missing) + to_come(found)
            bar.total = bar.n + to_train - saved
            # A control waits for the run whose norms it takes.
            ready = [c for c in missing if not c.norm_matched or c.original in found]
            if lost := done.intersection(ready):
                raise OSError(
                    f"the cell of {lost.pop().label} is gone from {folders[0]}; expected it where"
                    " it was written; was the folder emptied meanwhile?"
                )
            todo = jobs(ready, ensembles=ensembles)
            kept = {"folder": folders[0], "deadline": deadline, "keep_states": keep_states}
            _run(todo, found, data_dir, executor, bar, kept)
            done.update(ready)
            configs, found = known(plan, folders)


def known(plan: Plan, folders: Sequence[Path]) -> tuple[list[Config], Found]:
    """Gives the runs that an experiment has so far, and those of them that are finished."""
    found: Found = {}
    while True:
        configs = list(dict.fromkeys(plan(found)))
        # Cells from before the localization was measured have no list of epochs; train them anew.
        now = {c: cell for c, cell in cells.find(folders, configs).items() if _is_whole(cell)}
        if now.keys() == found.keys():
            return configs, now
        found = now


def _is_whole(cell: cells.Cell[Config]) -> bool:
    return "epochs" in cell.metrics


def _run(
    todo: Sequence[Job],
    found: Found,
    data_dir: Path | None,
    executor: Executor | None,
    bar: tqdm,
    kept: dict[str, Any],
) -> None:

    def norms(job: Job) -> list[np.ndarray] | None:
        if not job[0].norm_matched:
            return None
        return [found[config.original].arrays["norms"] for config in job]

    def write(job: Job, finished: Sequence[cells.Cell[Config]]) -> None:
        for cell in finished:
            cells.write(kept["folder"], cell, label=cell.config.label)
        if not kept["keep_states"]:
            place(kept["folder"], job).unlink(missing_ok=True)

    if executor is None:
        for number, job in enumerate(todo):
            # However short the time is, each call trains an epoch.
            if number and kept["deadline"] is not None and time.time() >= kept["deadline"]:
                raise OutOfTime
            bar.set_description(job[0].label if len(job) == 1 else f"{job[0].label} x {len(job)}")
            write(job, run_job(job, data_dir, norms(job), bar.update, **kept))
        return
    futures = {executor.submit(run_job, job, data_dir, norms(job), **kept): job for job in todo}
    stopped = False
    try:
        for future in as_completed(futures):
            if future.cancelled():
                continue
            try:
                write(futures[future], future.result())
            except OutOfTime:
                # Those that train stop at their next epoch, or finish, which is worth waiting for.
                stopped = True
                for other in futures:
                    other.cancel()
                continue
            bar.update(sum(config.num_images for config in futures[future]))
    finally:
        for future in futures:
            future.cancel()
    if stopped:
        raise OutOfTime
