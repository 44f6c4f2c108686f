"""Spectra of checkpoints from the shell: spectral-reg evaluate MODEL, compare A B, follow RUN."""

import argparse
import os
import sys
from collections.abc import Sequence

from ._compare import add_compare_command
from ._evaluate import add_evaluate_command
from ._follow import add_follow_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 on bad input (argparse exits 2 on usage)."""
    parser = argparse.ArgumentParser(prog="spectral-reg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_evaluate_command(commands)
    add_compare_command(commands)
    add_follow_command(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has had enough, as head does: what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ImportError, OSError) as error:
        print(f"spectral-reg: {error}", file=sys.stderr)
        return 1
    return 0
