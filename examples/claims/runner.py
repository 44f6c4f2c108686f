"""Runs what is missing of a claim: first the tuning of every arm, then fresh seeds."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from examples.claims import cells
from examples.claims.cells import Cell, Job
from examples.claims.claim import Arm, Claim, Preset, Setting
from examples.claims.engine import Task, run_trials
from examples.claims.registry import CLAIMS

# Far from those that arms are judged on.
TUNING_SEED = 1000


class Finished(NamedTuple):
    """The cells of a claim that are there.

    Attributes:
        tuned: By arm, of those that are tuned.
        grids: By arm, the settings that are tried.
        chosen: By arm, the settings on which it is judged.
        judged: By arm.
        missing: The cells that are not there.
    """

    tuned: Mapping[str, Cell]
    grids: Mapping[str, tuple[Setting, ...]]
    chosen: Mapping[str, tuple[Setting, ...]]
    judged: Mapping[str, Cell]
    missing: tuple[str, ...]


def complete(
    name: str,
    preset_name: str,
    folder: Path,
    *,
    data_dir: Path | None = None,
    deadline: float = math.inf,
    told: Callable[[str], None] = print,
) -> Finished:
    """Runs what is missing and gives all cells.

    A cell whose program fails on the device, for want of memory say, is told of and left out; the
    others are run.

    Args:
        name: Of the claim.
        preset_name: Of its budget.
        folder: Of the cells.
        data_dir: The folder that holds `mnist/`, where the preset needs it.
        deadline: Of `time.monotonic()`, after which no further cell is begun.
        told: Takes a line for each cell that is run.

    Raises:
        DataError: If the data are missing.
    """
    claim = CLAIMS[name]
    preset = claim.presets[preset_name]
    task: Task | None = None
    missing = []

    def cell_of(job: Job) -> Cell | None:
        nonlocal task
        found = cells.read(folder, job)
        if found is None and time.monotonic() < deadline:
            task = task or claim.make_task(preset.task, data_dir)
            try:
                found = _run(claim, preset, task, job, folder)
                told(f"{name} {job.arm} {job.phase}: {found.seconds:.1f} s")
            except jax.errors.JaxRuntimeError as error:
                told(f"{name} {job.arm} {job.phase} failed: {error}")
        if found is None:
            missing.append(f"{job.arm} {job.phase}")
        return found

    size = (preset.budget, sorted(preset.task.items()))

    def job(arm: str, phase: str, settings: tuple[Setting, ...], seeds: tuple[int, ...]) -> Job:
        return Job(claim.shared or name, preset_name, arm, phase, settings, seeds, size)

    tried = tuple(range(TUNING_SEED, TUNING_SEED + preset.num_tuning))
    tuned: dict[str, Cell] = {}
    judged: dict[str, Cell] = {}
    chosen: dict[str, tuple[Setting, ...]] = {}
    grids = {arm: grid_of(each, preset) for arm, each in claim.arms.items()}

    def tune(arm: str) -> None:
        cell = cell_of(job(arm, "tune", grids[arm], tried)) if grids[arm] else None
        if cell is not None:
            tuned[arm] = cell

    def judge(arm: str) -> None:
        each = claim.arms[arm]
        if each.tuned_as in chosen:
            (*taken,) = chosen[each.tuned_as]
            if each.own_rates:
                rates = each.own_rates[: preset.num_settings]
                grids[arm] = tuple(
                    {**setting, "own_rate": rate * setting["rate"]}
                    for rate in rates
                    for setting in taken
                )
                tune(arm)
            else:
                chosen[arm] = tuple(taken)
        if arm in tuned:
            chosen[arm] = choose(claim, grids[arm], tuned[arm], controls_of(claim, tuned))
        cell = (
            cell_of(job(arm, "judge", chosen[arm], preset.fresh_seeds)) if arm in chosen else None
        )
        if cell is not None:
            judged[arm] = cell

    # At equal quality, what an arm is judged on depends on all others. Else each arm is finished
    # before the next, so that what there is can be compared whenever time is over.
    for stages in ((tune,), (judge,)) if claim.equal else ((tune, judge),):
        for arm in claim.arms:
            for stage in stages:
                stage(arm)
    return Finished(tuned, grids, chosen, judged, tuple(missing))


def grid_of(arm: Arm, preset: Preset) -> tuple[Setting, ...]:
    """The settings of an arm that are tried at a preset."""
    first = arm.grid[: preset.num_settings]
    if preset.rate_scale == 1:
        return first
    return tuple({**setting, "rate": preset.rate_scale * setting["rate"]} for setting in first)


def find(name: str, preset_name: str, folder: Path) -> Finished:
    """The finished cells of a claim, without running any."""
    return complete(name, preset_name, folder, deadline=-math.inf)


def controls_of(claim: Claim, tuned: Mapping[str, Cell]) -> dict[str, Cell]:
    """Those of arms that are controls only, and have settings of their own."""
    return {
        arm: cell
        for arm, cell in tuned.items()
        if not (claim.arms[arm].controls or claim.arms[arm].tuned_as)
    }


def enough(claim: Claim, controls: Mapping[str, Cell]) -> float:
    """The quality from which on settings are chosen: within the tolerance of the controls' best."""
    best = [qualities(claim, cell).max() for cell in controls.values()]
    return max(best, default=math.inf) - claim.tolerance


def qualities(claim: Claim, cell: Cell) -> np.ndarray:
    """Of every block of settings, the quality that the arms are to share."""
    assert claim.equal is not None
    return _blocks(claim, cell, claim.equal(cell.measured))


def scores(claim: Claim, cell: Cell) -> np.ndarray:
    """Of every block of settings, the number of which the highest is chosen."""
    return _blocks(claim, cell, claim.tuning(cell.measured))


def _blocks(claim: Claim, cell: Cell, values: np.ndarray) -> np.ndarray:
    # A block is so many settings, the seeds of each in a row.
    known = np.nan_to_num(values, nan=-np.inf)
    return known.reshape(-1, claim.several * cell.num_seeds).mean(1)


def choose(
    claim: Claim, grid: tuple[Setting, ...], cell: Cell, controls: Mapping[str, Cell]
) -> tuple[Setting, ...]:
    """The block of settings that tuning found best, among those that are good enough."""
    found = scores(claim, cell)
    if claim.equal is not None:
        quality = qualities(claim, cell)
        found = np.where(quality >= min(enough(claim, controls), quality.max()), found, -np.inf)
    first = int(found.argmax()) * claim.several
    return grid[first : first + claim.several]


def _run(claim: Claim, preset: Preset, task: Task, job: Job, folder: Path) -> Cell:
    trials = [(setting, seed) for setting in job.settings for seed in job.seeds]
    settings = {
        name: jnp.array([setting[name] for setting, _ in trials], _kind(name))
        for name in trials[0][0]
    }
    seeds = jnp.array([seed for _, seed in trials], jnp.int32)
    began = time.monotonic()
    program = claim.arms[job.arm].program
    measured = jax.device_get(run_trials(task, program, preset.budget, settings, seeds))
    return cells.write(folder, job, measured, time.monotonic() - began)


def _kind(name: str) -> type:
    return jnp.int32 if name == "control" else jnp.float32
