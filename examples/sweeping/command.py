"""The command line that the experiments share."""

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from examples import downloads
from examples.sweeping import sweep
from examples.sweeping.presets import PRESETS, Preset, change
from examples.training import data
from examples.training.states import OutOfTime


class Finished(NamedTuple):
    """What a script is given to draw and to write.

    Attributes:
        cells: The finished cells, in the order of the plan.
        folder: Where figures and tables go.
        where: Folders of the cells.
        command: What made the cells.
        preset: The budget.
        options: All options.
    """

    cells: sweep.Found
    folder: Path
    where: Sequence[Path]
    command: str
    preset: Preset
    options: argparse.Namespace


class Experiment(NamedTuple):
    """A script: its name, its first line of help, and its two halves.

    Attributes:
        name: Of the module.
        description: For the help.
        plan: Gives the runs of a preset.
        present: Draws and writes what the finished cells say; gives the paths.
        presets: The presets that it has, the first of them the default.
        arguments: Adds arguments of its own, which both halves get.
        to_come: How many images the runs train on that `plan` does not name yet.
    """

    name: str
    description: str
    plan: Callable[[Preset, argparse.Namespace], sweep.Plan]
    present: Callable[[Finished], Sequence[Path]]
    presets: Mapping[str, Preset] = PRESETS
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    to_come: Callable[[Preset, argparse.Namespace, sweep.Found], int] = lambda *given: 0


# Told in their own way, or of this machine alone.
UNTOLD = {"preset", "data", "data_dir", "download", "out", "cells", "write"} | {
    "plot_only",
    "minutes",
    "keep_states",
    "seed",
    "help",
    "ensembles",
}


UNFINISHED = 3


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is {text!r}; expected a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """Reads an argument that is a whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"it is {text!r}; expected a whole number from 1 on")
    return int(text)


def minutes(text: str) -> float:
    """Reads an argument that is a time in minutes."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"it is {text!r}; expected a number of minutes above 0")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({positive(part) for part in text.split(",")}, reverse=True))


def make_parser(experiment: Experiment) -> argparse.ArgumentParser:
    """Makes the parser of an experiment's arguments."""
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{experiment.name}", description=experiment.description
    )
    parser.add_argument(
        "--preset", choices=experiment.presets, default=next(iter(experiment.presets))
    )
    parser.add_argument("--data", choices=data.SIZES, help="default: what the preset has")
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder of cifar-10-batches-bin/, cifar-10-binary.tar.gz, mnist/ or fashion-mnist/",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the data into --data-dir, or into a cache"
    )
    parser.add_argument("--out", type=Path, help=f"default: runs/{experiment.name}-DATA-PRESET")
    parser.add_argument(
        "--cells",
        type=Path,
        action="append",
        help="folder of cells, where not --out, to share among experiments; new ones go to the"
        " first that is given",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="the first; a whole number from 0 on")
    parser.add_argument("--seeds", type=positive, help="how many; default: what the preset has")
    parser.add_argument("--epochs", type=positive, help="other than the preset's")
    parser.add_argument("--train-size", type=positive, help="images, other than the preset's")
    parser.add_argument("--batch-sizes", type=_sizes, help="other than the preset's, as 500,32,8")
    parser.add_argument(
        "--ensembles",
        action=argparse.BooleanOptionalAction,
        help="train the seeds of a run as one program; default: on an accelerator",
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        help="stop before so many are over, at the end of an epoch, with exit code 3 if something"
        " is left; the same command resumes",
    )
    parser.add_argument(
        "--keep-states",
        action="store_true",
        help="keep the training state of finished runs: the same command with more --epochs"
        " continues from it",
    )
    parser.add_argument("--plot-only", action="store_true", help="draw the finished cells, no more")
    experiment.arguments(parser)
    return parser


def chosen(
    experiment: Experiment, parser: argparse.ArgumentParser, options: argparse.Namespace
) -> Preset:
    """Gives the preset as the other options change it."""
    preset = experiment.presets[options.preset]
    given = {"data": options.data, "epochs": options.epochs, "train_size": options.train_size}
    preset = change(preset, **{name: value for name, value in given.items() if value is not None})
    if options.batch_sizes:
        preset = preset._replace(batch_sizes=options.batch_sizes)
    if max(preset.batch_sizes) > preset.baseline.train_size:
        parser.error(
            f"the largest batch size is {max(preset.batch_sizes)}; expected at most"
            f" {preset.baseline.train_size}, the number of training images; give smaller"
            " --batch-sizes, or a larger --train-size"
        )
    return preset._replace(num_seeds=options.seeds or preset.num_seeds)


def record(parser: argparse.ArgumentParser, options: argparse.Namespace, preset: Preset) -> str:
    """Gives the command that makes these results, without the paths of this machine."""
    words = [parser.prog, "--preset", options.preset, "--data", preset.baseline.data]
    if preset.baseline.data in data.NEEDS_FOLDER:
        words += ["--data-dir", "FOLDER"]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in UNTOLD or value == action.default:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [action.option_strings[0], shlex.quote(text)]
    return " ".join([*words, "--seed", str(options.seed)])


def _number(folders: Sequence[Path], plan: sweep.Plan) -> tuple[int, int]:
    configs, found = sweep.known(plan, folders)
    return len(found), len(configs)


def _opening(plan: sweep.Plan, folders: Sequence[Path]) -> str:
    """One line of what is about to happen."""
    configs, found = sweep.known(plan, folders)
    missing = [config for config in configs if config not in found]
    images = sum(config.num_images for config in missing)
    what = f"{len(missing)} run{'s' if len(missing) != 1 else ''}, {images:,} images"
    return f"trains {what}; then a table and figures" if missing else "draws finished runs"


def main(
    experiment: Experiment,
    arguments: Sequence[str] | None = None,
    *,
    executor: Executor | None = None,
) -> int:
    """Runs the command line of an experiment.

    Args:
        experiment: Which.
        arguments: The command's, by default this process's.
        executor: Where the cells are trained, such as `dask.distributed.Client().get_executor()`;
            by default here, one after the other.

    Returns:
        The exit code: 0, 1 for an error, 2 for wrong arguments, 3 where `--minutes` are over and
        something is left to train, 130 after an interrupt.
    """
    parser = make_parser(experiment)
    options = parser.parse_args(arguments)
    preset = chosen(experiment, parser, options)
    data_name = preset.baseline.data
    folder = options.out or Path("runs") / f"{experiment.name}-{data_name}-{options.preset}"
    where = options.cells or [folder]
    try:
        plan = experiment.plan(preset, options)
        if not options.plot_only:
            data_dir = options.data_dir
            if options.download and data_name in data.NEEDS_FOLDER:
                data_dir = downloads.fetch(data_name, data_dir)
            print(f"{experiment.name}: {_opening(plan, where)}", file=sys.stderr)
            sweep.complete(
                plan,
                where,
                data_dir=data_dir,
                executor=executor,
                ensembles=options.ensembles,
                to_come=lambda found: experiment.to_come(preset, options, found),
                minutes=options.minutes,
                keep_states=options.keep_states,
            )
    except (data.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, OutOfTime) as stop:
        finished, number = _number(where, plan)
        print(
            f"\nstopped; {finished} of {number} cells are finished in {where[0]}; the same command"
            " resumes",
            file=sys.stderr,
        )
        return UNFINISHED if isinstance(stop, OutOfTime) else 130
    configs, found = sweep.known(plan, where)
    if not found:
        print(
            f"error: the number of finished cells in {', '.join(map(str, where))} is 0; expected"
            " some of this experiment; run it without --plot-only",
            file=sys.stderr,
        )
        return 1
    if len(found) < len(configs):
        print(f"{len(configs) - len(found)} of {len(configs)} cells are missing", file=sys.stderr)
    given = Finished(found, folder, where, record(parser, options, preset), preset, options)
    try:
        for path in experiment.present(given):
            print(path)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
