"""The papers' scale in pieces of a few minutes, for a borrowed accelerator.

    python -m examples.accelerator pack --data-dir FOLDER --out PARTS
    python -m examples.accelerator estimate --data-dir PARTS --cells CELLS
    python -m examples.accelerator run --data-dir PARTS --cells CELLS --minutes 8

`pack` writes CIFAR-10 as two files of 41 MB that take the place of its folder. `run` trains for the
given minutes and exits with code 3 while training remains; the same command continues, on another
machine too if you bring the cells folder along. It trains the batch sizes of `original` first, with
three seeds of each as one program, then `explicit_penalty` with five seeds, then what `paper_table`
still lacks. `estimate` times a hundredth of an epoch at each batch size on this device, and prints
how many minutes and pieces remain, here and, by arithmetic, on a device of a given speed.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from examples import batch_size, explicit_penalty, paper_table
from examples.sweeping import command, sweep
from examples.sweeping.presets import Preset
from examples.training import data, packed
from examples.training.config import Config
from examples.training.data import Dataset
from examples.training.memory import keep_freed
from examples.training.mini_alexnet import FLOPS
from examples.training.states import OutOfTime, saved_epochs
from examples.training.training import train, train_ensemble

WORK = ((batch_size, 3), (explicit_penalty, 5), (paper_table, 3))
# What an H100 may be expected to do with these small convolutions in float32, and the time of a
# step however small its batch is. Neither is measured: --flops and --step-seconds replace them.
FLOPS_A_SECOND, STEP_SECONDS = 2e13, 3e-4


class Part(NamedTuple):
    """One experiment of the work.

    Attributes:
        experiment: Which.
        preset: Its size.
        options: What its command line would have.
        plan: Its runs.
    """

    experiment: command.Experiment
    preset: Preset
    options: argparse.Namespace
    plan: sweep.Plan

    def images_to_come(self, found: sweep.Found) -> int:
        """How many images the runs train on that are not named yet."""
        return self.experiment.to_come(self.preset, self.options, found)


def work(options: argparse.Namespace) -> list[Part]:
    """Gives the experiments in the order in which they are worth most."""
    parts = []
    for module, num_seeds in WORK:
        experiment = module.EXPERIMENT
        parser = command.make_parser(experiment)
        seeds = min(num_seeds, options.seeds) if options.seeds else num_seeds
        arguments = ["--preset", options.preset, "--seeds", str(seeds)]
        if module is explicit_penalty:
            arguments += ["--compare", options.compare]
        given = parser.parse_args(arguments)
        preset = command.chosen(experiment, parser, given)
        parts.append(Part(experiment, preset, given, experiment.plan(preset, given)))
    return parts


def run(options: argparse.Namespace) -> int:
    """Trains one piece; gives 3 while something is left."""
    end = time.time() + 60 * options.minutes
    for part in work(options):
        minutes = (end - time.time()) / 60
        try:
            if minutes <= 0 and _left(part, options.cells, options.ensembles):
                raise OutOfTime
            sweep.complete(
                part.plan,
                [options.cells],
                data_dir=options.data_dir,
                ensembles=options.ensembles,
                to_come=part.images_to_come,
                minutes=max(minutes, 0.0),
            )
        except OutOfTime:
            configs, found = sweep.known(part.plan, [options.cells])
            print(f"{part.experiment.name}: {len(found)} of {len(configs)} cells are finished")
            return command.UNFINISHED
    print("all cells are finished; draw them with the scripts' own --plot-only")
    return 0


def pack(options: argparse.Namespace) -> int:
    """Writes the parts, and prints their paths and sizes."""
    for path in packed.write(*data.READERS["cifar10"](options.data_dir), options.out):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def seconds_of_step(config: Config, num_seeds: int, num_steps: int) -> float:
    """Measures a step of so many seeds at once on this device, compilation left out."""
    size = num_steps * config.batch_size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, data.SIDE, data.SIDE, 3)).astype(np.float32)
    labels = rng.integers(data.NUM_CLASSES, size=size).astype(np.int32)
    dataset = Dataset(images, labels, images[:1], labels[:1])
    times: list[float] = []

    def keep_time(num_images: int) -> None:
        times.append(time.perf_counter())

    small = dataclasses.replace(config, train_size=size, test_size=1, epochs=3)
    if num_seeds == 1:
        train(small, dataset, _at_ends(size, keep_time))
    else:
        runs = [dataclasses.replace(small, seed=seed) for seed in range(num_seeds)]
        train_ensemble(runs, dataset, keep_time)
    # The first epoch compiles its step, and its end what measures the network.
    return (times[2] - times[1]) / num_steps


def _at_ends(size: int, call: Callable[[int], None]) -> Callable[[int], None]:
    """Calls once for every so many images."""
    seen = 0

    def on_images(number: int) -> None:
        nonlocal seen
        before, seen = seen, seen + number
        if before // size < seen // size:
            call(number)

    return on_images


def _left(part: Part, folder: Path, ensembles: bool | None) -> list[tuple[sweep.Job, int]]:
    """The jobs of a part that are not finished, and the steps that each has left."""
    configs, found = sweep.known(part.plan, [folder])
    missing = [config for config in configs if config not in found]
    result = []
    for job in sweep.jobs(missing, ensembles=ensembles):
        epochs = job[0].epochs - saved_epochs(folder, job)
        result.append((job, epochs * job[0].num_steps))
    # What is not named yet: at the largest batch, where a penalty is looked for.
    largest = part.preset.largest
    to_come = part.images_to_come(found) // largest.batch_size
    return [*result, ((largest,), to_come)] if to_come else result


def estimate(options: argparse.Namespace) -> int:
    """Prints what is left: images, steps, minutes here and by arithmetic, and pieces."""
    parts = [(part, _left(part, options.cells, options.ensembles)) for part in work(options)]
    kinds = {(job[0].batch_size, len(job)): job[0] for _, left in parts for job, _ in left}
    here = {}
    for (size, num_seeds), config in sorted(kinds.items(), reverse=True):
        plain = dataclasses.replace(config, penalty="", strength=0.0, norm_matched=False)
        # A hundredth of an epoch, but two steps at least.
        num_steps = max(2, config.num_steps // 100)
        here[size, num_seeds] = seconds_of_step(plain, num_seeds, num_steps)
        rate = size * num_seeds / here[size, num_seeds]
        print(f"b = {size}, {num_seeds} at once: {rate:,.0f} images/s", file=sys.stderr)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("what is left of")
    device = jax.devices()[0].device_kind
    for header in ("million images", "million steps", f"minutes on {device}", "by arithmetic"):
        table.add_column(header, justify="right")
    totals = np.zeros(4)
    for part, left in parts:
        line = np.zeros(4)
        for job, steps in left:
            size, number = job[0].batch_size, len(job)
            arithmetic = max(size * number * FLOPS / options.flops, options.step_seconds)
            images = steps * size * number / 1e6
            seconds = here[size, number], arithmetic
            line += [images, steps / 1e6, *(steps * each / 60 for each in seconds)]
        totals += line
        table.add_row(part.experiment.name, *(f"{number:,.2f}" for number in line))
    table.add_row("all", *(f"{number:,.2f}" for number in totals))
    Console().print(table)
    pieces = np.ceil(totals[2:] / options.minutes).astype(int)
    print(
        f"pieces of {options.minutes:g} minutes: {pieces[0]:,} on {device}; {pieces[1]:,} at"
        f" {options.flops:.0e} FLOP/s and at least {options.step_seconds:.0e} s a step. Runs that"
        " two experiments share count in both; measuring between epochs is left out."
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.accelerator", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(required=True)
    writes = commands.add_parser("pack", help="write CIFAR-10 as two files below 60 MB")
    writes.add_argument("--data-dir", type=Path, required=True, help="of cifar-10-batches-bin/")
    writes.add_argument("--out", type=Path, required=True)
    writes.set_defaults(call=pack)
    for name, call, text in (
        ("run", run, "train one piece; exit code 3 while something is left"),
        ("estimate", estimate, "print what is left, in minutes and pieces"),
    ):
        each = commands.add_parser(name, help=text)
        each.add_argument("--data-dir", type=Path, help="of the parts, or of CIFAR-10 itself")
        each.add_argument("--cells", type=Path, required=True, help="folder of cells and states")
        each.add_argument("--preset", choices=batch_size.EXPERIMENT.presets, default="original")
        each.add_argument("--seeds", type=command.positive, help="at most; default: 3, 5 and 3")
        each.add_argument("--minutes", type=command.minutes, default=8.0)
        each.add_argument(
            "--compare",
            choices=("auto", "epochs", "updates"),
            default="auto",
            help="as for explicit_penalty: equal updates take 15 times as long as equal epochs",
        )
        each.add_argument("--ensembles", action=argparse.BooleanOptionalAction)
        each.set_defaults(call=call)
        if call is estimate:
            each.add_argument("--flops", type=float, default=FLOPS_A_SECOND, help="a second")
            each.add_argument("--step-seconds", type=float, default=STEP_SECONDS)
    options = parser.parse_args(arguments)
    try:
        return options.call(options)
    except (data.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
