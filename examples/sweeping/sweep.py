"""Runs the cells of an experiment, those that are not finished yet, wherever it is told to."""

import dataclasses
import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from examples.sweeping import cells
from examples.training import data
from examples.training.config import Config
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
) -> list[cells.Cell[Config]]:
    """Trains one run, or several seeds of it as an ensemble.

    Args:
        job: The runs.
        data_dir: Folder of the data, on the machine that this is called on.
        norms: For norm-matched controls, those of the runs that they are the controls of.
        on_images: Told how many images were trained on.

    Returns:
        The finished cells, not written yet.
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
    start = time.perf_counter()
    if len(job) == 1:
        outcomes = [train(config, dataset, on_images, None if norms is None else norms[0])]
    else:
        outcomes = train_ensemble(job, dataset, on_images, norms)
    seconds = (time.perf_counter() - start) / len(job)
    origin = cells.origin() | {"ensemble": len(job)}
    return [
        cells.Cell(each, outcome.metrics, outcome.arrays, seconds, origin)
        for each, outcome in zip(job, outcomes, strict=True)
    ]


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
) -> None:
    """Trains what is missing of an experiment, and writes every cell as soon as it is finished.

    Args:
        plan: The experiment.
        folders: Where its cells are; new ones go to the first.
        data_dir: Folder of the data.
        executor: Where jobs are run; in this process, one by one, if there is none.
        ensembles: As for `jobs`.
        to_come: How many images the runs train on that are not known yet, for the estimate.
    """
    configs, found = known(plan, folders)
    if found:
        where = ", ".join(map(str, folders))
        print(f"{len(found)} of {len(configs)} cells are in {where} already", file=sys.stderr)
    done: set[Config] = set()
    with tqdm(unit="img", unit_scale=True, ncols=80, leave=False, smoothing=0.1) as bar:
        while missing := [config for config in configs if config not in found]:
            bar.total = bar.n + sum(config.num_images for config in missing) + to_come(found)
            # A control waits for the run whose norms it takes.
            ready = [c for c in missing if not c.norm_matched or c.original in found]
            if lost := done.intersection(ready):
                raise OSError(
                    f"the cell of {lost.pop().label} is gone from {folders[0]}; expected it where"
                    " it was written; was the folder emptied meanwhile?"
                )
            todo = jobs(ready, ensembles=ensembles)
            _run(todo, found, folders[0], data_dir, executor, bar)
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
    folder: Path,
    data_dir: Path | None,
    executor: Executor | None,
    bar: tqdm,
) -> None:
    def norms(job: Job) -> list[np.ndarray] | None:
        if not job[0].norm_matched:
            return None
        return [found[config.original].arrays["norms"] for config in job]

    def write(finished: Sequence[cells.Cell[Config]]) -> None:
        for cell in finished:
            cells.write(folder, cell, label=cell.config.label)

    if executor is None:
        for job in todo:
            bar.set_description(job[0].label if len(job) == 1 else f"{job[0].label} x {len(job)}")
            write(run_job(job, data_dir, norms(job), bar.update))
        return
    futures = {executor.submit(run_job, job, data_dir, norms(job)): job for job in todo}
    try:
        for future in as_completed(futures):
            write(future.result())
            bar.update(sum(config.num_images for config in futures[future]))
    finally:
        for future in futures:
            future.cancel()
