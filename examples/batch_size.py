"""MiniAlexNet over batch sizes, and once with an explicit penalty: the phases of training.

    python -m examples.batch_size --preset demo

Small batches regularize a network implicitly, and its spectra show it. The sweep trains the same
network from the same weights at several batch sizes, and at the largest of them once more with a
spectral penalty in the place of the small batch.
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from tqdm import tqdm

from examples import cells, data, figures, report
from examples.training import Config, train


class Preset(NamedTuple):
    """A sweep of a certain cost. Sizes beyond what the data has mean all of it."""

    batch_sizes: tuple[int, ...]
    epochs: int
    train_size: int
    test_size: int


PRESETS = {
    "demo": Preset((256, 64, 16, 4), epochs=6, train_size=5000, test_size=10_000),
    "quick": Preset((500, 128, 32, 8), epochs=4, train_size=5000, test_size=10_000),
    "smoke": Preset((32,), epochs=1, train_size=64, test_size=32),
}
PENALTY = "log_stable_rank"
# Digits, b = 256, seed 0: FC1 stable rank 219 without, 165 at 0.1 and 106 at 0.3, which is that of
# b = 16 (100); the training loss and the test accuracy stay the same at both.
STRENGTH = 0.3


def sweep(preset: str, data_name: str, seed: int) -> list[Config]:
    """Lists the runs of a preset: the batch sizes, then the largest again with the penalty."""
    chosen = PRESETS[preset]
    num_train, num_test = data.SIZES[data_name]
    plain = [
        Config(
            data=data_name,
            train_size=min(chosen.train_size, num_train),
            test_size=min(chosen.test_size, num_test),
            batch_size=batch_size,
            epochs=chosen.epochs,
            seed=seed,
        )
        for batch_size in chosen.batch_sizes
    ]
    return [*plain, dataclasses.replace(plain[0], penalty=PENALTY, strength=STRENGTH)]


_load = functools.cache(data.load)


def finish(
    config: Config, folder: Path, data_dir: Path | None, on_images: Callable[[int], object]
) -> Path:
    """Trains one cell and writes its file."""
    dataset = _load(config.data, data_dir, train_size=config.train_size, test_size=config.test_size)
    start = time.perf_counter()
    outcome = train(config, dataset, on_images)
    cell = cells.Cell(
        config=config,
        metrics=outcome.metrics,
        arrays=outcome.eigenvalues,
        wall_time=time.perf_counter() - start,
        origin=cells.origin(),
    )
    penalty = f"-{config.penalty}" if config.penalty else ""
    return cells.write(folder, cell, label=f"b{config.batch_size}{penalty}-seed{config.seed}")


def _train_missing(configs: Sequence[Config], folder: Path, data_dir: Path | None) -> None:
    done = cells.find(folder, configs)
    if done:
        print(f"{len(done)} of {len(configs)} cells are in {folder} already", file=sys.stderr)
    missing = [config for config in configs if config not in done]
    if not missing:
        return
    num_images = [
        config.train_size // config.batch_size * config.batch_size * config.epochs
        for config in missing
    ]
    with tqdm(
        total=sum(num_images), unit="img", unit_scale=True, ncols=80, leave=False, smoothing=0.1
    ) as bar:
        for config in missing:
            penalty = " + penalty" if config.penalty else ""
            bar.set_description(f"b = {config.batch_size}{penalty}")
            finish(config, folder, data_dir, bar.update)


def _present(found: Sequence[cells.Cell[Config]], folder: Path, heading: str, command: str) -> None:
    rows = [report.row(cell) for cell in found]
    paths = [
        figures.save(figures.against_batch_size(rows, heading), folder / "ranks.png"),
        figures.save(figures.spectra(rows, f"FC1, {heading}"), folder / "spectra.png"),
        report.write(rows, folder / "results.md", heading, command),
    ]
    console = Console()
    console.print(report.table(rows))
    for path in paths:
        console.print(str(path), soft_wrap=True, highlight=False)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.batch_size", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--preset", choices=PRESETS, default="demo")
    parser.add_argument("--data", choices=data.SIZES, default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of cifar-10-batches-bin/ or mnist/")
    parser.add_argument("--out", type=Path, help="default: runs/batch_size-DATA-PRESET")
    parser.add_argument("--seed", type=_seed, default=0, help="a whole number from 0 on")
    parser.add_argument("--plot-only", action="store_true", help="draw the finished cells, no more")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    options = _parser().parse_args(arguments)
    folder = options.out or Path("runs") / f"batch_size-{options.data}-{options.preset}"
    configs = sweep(options.preset, options.data, options.seed)
    command = f"python -m examples.batch_size --preset {options.preset} --data {options.data}"
    if options.data in data.NEEDS_FOLDER:
        command += " --data-dir FOLDER"
    command += f" --seed {options.seed}"
    try:
        if not options.plot_only:
            _train_missing(configs, folder, options.data_dir)
    except (data.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nstopped; {len(cells.find(folder, configs))} of {len(configs)} cells are finished in"
            f" {folder}, and the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    found = list(cells.find(folder, configs).values())
    if not any(not cell.config.penalty for cell in found):
        print(
            f"error: no finished cell of this sweep in {folder}: run it without --plot-only",
            file=sys.stderr,
        )
        return 1
    if len(found) < len(configs):
        print(f"{len(configs) - len(found)} of {len(configs)} cells are missing", file=sys.stderr)
    first = configs[0]
    heading = f"MiniAlexNet on {first.data}, {first.train_size:,} images, {first.epochs} epochs"
    _present(found, folder, heading, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
