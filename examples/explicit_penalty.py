"""Can an explicit spectral penalty at a large batch do what a small batch does?

    python -m examples.explicit_penalty --preset demo

There are two stages. The search trains every penalty at several strengths at the large batch size,
one seed each, and judges them on images that it does not train on. The best strength of each gets
a norm-matched control: the same run without the penalty, whose weights are rescaled after every
step to the Frobenius norms of the penalized run. The finalists train on all images with several
seeds each and are judged on the test set: no penalty, the best L2, the best spectral penalty and
its control, and two smaller batch sizes.

Equal numbers of epochs are a fair comparison if the large batch and the reference both reach 99 %
training accuracy. Otherwise the large batch trains for as many updates as the reference, unless
`--compare` says which.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from examples.presenting import penalty_report
from examples.sweeping import command
from examples.sweeping.stages import plan, stages, to_come
from examples.training.memory import keep_freed


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the experiment's own arguments."""
    parser.add_argument(
        "--compare",
        choices=("auto", "epochs", "updates"),
        default="auto",
        help="what the batch sizes have in common; default: see above",
    )
    parser.add_argument(
        "--search-size", type=command.positive, help="training images of the search"
    )
    parser.add_argument(
        "--search-epochs", type=command.positive, help="epochs of the search at the reference"
    )
    parser.add_argument(
        "--validation-size",
        type=command.positive,
        help="images that the search is judged on, those that follow its training images; default:"
        " the last tenth of the training images",
    )


def present(finished: command.Finished) -> Sequence[Path]:
    """Draws the search and the gap, and writes the tables."""
    now = stages(finished.preset, finished.options, finished.cells)
    return penalty_report.present(now, finished)


EXPERIMENT = command.Experiment(
    "explicit_penalty",
    __doc__.splitlines()[0],
    plan,
    present,
    arguments=arguments,
    to_come=to_come,
)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    keep_freed()
    sys.exit(main())
