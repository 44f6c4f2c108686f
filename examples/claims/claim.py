"""What a claim is: its source, its arms, its controls, and the number that decides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from examples.claims.engine import Budget, Program, Task

# Name to `[num_trials, ...]`, as a program gives them.
Measured = Mapping[str, np.ndarray]
Setting = Mapping[str, float]


class Arm(NamedTuple):
    """One way to train.

    Attributes:
        program: The optimizer, and what runs along.
        grid: The settings that are tried: as many for every arm of a claim that tunes.
        tuned_as: The arm whose settings it takes over, where it has no grid.
        own_rates: Of one with `norms_of` that takes over settings: the multiples of the other
            run's rate that are tried for its own. It has that rate where there are none.
        controls: The arms that it has to beat; empty for one that is a control only.
        text: What it is, for the table.
    """

    program: Program
    grid: tuple[Setting, ...] = ()
    tuned_as: str = ""
    own_rates: tuple[float, ...] = ()
    controls: tuple[str, ...] = ()
    text: str = ""


class Preset(NamedTuple):
    """A budget of a claim.

    Attributes:
        budget: Of each run.
        num_seeds: Fresh ones, on which arms are judged.
        num_settings: At most so many of each grid, from the first.
        task: Options of the task.
        num_tuning: Seeds on which each setting is tried.
        rate_scale: By which all learning rates of the grids are multiplied: small networks and
            short runs want higher ones.
        first_seed: Of the fresh ones; past those on which an earlier form of the claim was judged.
    """

    budget: Budget
    num_seeds: int
    num_settings: int
    task: Mapping[str, Any] = {}
    num_tuning: int = 1
    rate_scale: float = 1
    first_seed: int = 0

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """On which arms are judged."""
        return tuple(range(self.first_seed, self.first_seed + self.num_seeds))


class Claim(NamedTuple):
    """A public claim, and how it is decided.

    Attributes:
        title: In a few words.
        source: Who claims it, and where.
        published: The source's own number, in words.
        statistic: What decides, in words, with its split.
        higher: Whether more of it is better.
        make_task: From the preset's options and the folder of the data.
        arms: By name.
        tuning: From what was measured on the tuning seed, a number for each trial of which the
            highest is chosen.
        value: The deciding number of each trial, from what was measured on fresh seeds.
        presets: By name.
        several: How many settings of an arm's grid are judged together, as the learning rates of a
            sweep: the grid is so many blocks long, and the best block is chosen.
        also: Further numbers of each trial, for the table.
        equal: A quality that the arms are to share: only trials within `tolerance` of the highest
            of the arms that are controls only are chosen from, or where an arm has none, its
            highest.
        tolerance: Of the quality.
        axes: What the quality and the score that chooses are called where they are drawn.
        shared: Name under which its cells are kept together with those of other claims on the same
            task, whose arms of the same name are the same; its own by default.
        notes: More lines for the page, from what was measured of each arm in tuning and in judging,
            and the steps of a chunk.
    """

    title: str
    source: str
    published: str
    statistic: str
    higher: bool
    make_task: Callable[[Mapping[str, Any], Path | None], Task]
    arms: Mapping[str, Arm]
    tuning: Callable[[Measured], np.ndarray]
    value: Callable[[Measured], np.ndarray]
    presets: Mapping[str, Preset]
    several: int = 1
    also: Mapping[str, Callable[[Measured], np.ndarray]] = {}
    equal: Callable[[Measured], np.ndarray] | None = None
    tolerance: float = 0
    axes: tuple[str, str] = ("quality", "score")
    shared: str = ""
    notes: Callable[[Mapping[str, Measured], Mapping[str, Measured], int], list[str]] | None = None
