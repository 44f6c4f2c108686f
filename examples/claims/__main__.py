"""The command line of the claims: `python -m examples.claims run --claim NAME`."""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.claims.registry import CLAIMS
from examples.claims.runner import complete
from examples.training.data import DataError
from examples.training.memory import keep_freed

PRESETS = ("smoke", "quick", "small", "full")
UNFINISHED = 3


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"it is {text!r}; expected a number of minutes above 0")
    return number


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = argparse.ArgumentParser(prog="python -m examples.claims", description=__doc__)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--claim", choices=CLAIMS, action="append", help="default: all")
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--cells", type=Path, default=Path("runs/claims"), help="their folder")
    parser.add_argument("--data-dir", type=Path, help="the folder that holds mnist/")
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=math.inf,
        help="begin no cell after so many, and end with exit code 3 if some are missing; the same "
        "command resumes",
    )
    parser.add_argument("--page", type=Path, default=Path("docs/claims.md"))
    parser.add_argument("--results", type=Path, default=Path("examples/results/claims"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code: 0, 1 for an error, 3 where something is left."""
    options = make_parser().parse_args(arguments)
    try:
        return _table(options) if options.command == "table" else _run(options)
    except (DataError, ValueError, OSError) as error:
        _tell(f"error: {error}")
        return 1


def _table(options: argparse.Namespace) -> int:
    from examples.claims import table  # SciPy and Matplotlib, which running needs not

    table.write(options.claim or CLAIMS, options.cells, options.page, options.results)
    return 0


def _run(options: argparse.Namespace) -> int:
    with_preset = [name for name, claim in CLAIMS.items() if options.preset in claim.presets]
    deadline = time.monotonic() + 60 * options.minutes
    left = False
    for name in options.claim or with_preset:
        if name not in with_preset:
            expected = ", ".join(CLAIMS[name].presets)
            raise ValueError(f"preset is {options.preset!r}; expected one of {expected} for {name}")
        finished = complete(
            name,
            options.preset,
            options.cells,
            data_dir=options.data_dir,
            deadline=deadline,
            told=_tell,
        )
        if finished.missing:
            left = True
            _tell(f"{name}: {len(finished.missing)} cells are missing; the same command resumes")
    return UNFINISHED if left else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
