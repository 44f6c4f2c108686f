"""Options that the commands share."""

import argparse
from pathlib import Path

import spectral_reg as sr

from .._evaluation import CONV


def add_conv_option(command: argparse.ArgumentParser) -> None:
    """Adds ``--conv``, which is the same for every command."""
    command.add_argument(
        "--conv",
        type=_conv,
        default="slices",
        metavar="{slices,pooled,flatten,HEIGHTxWIDTH}",
        help="what a convolution becomes; a size of its input, such as 32x32, for its operator",
    )


def add_folder_options(command: argparse.ArgumentParser, kept: str) -> None:
    """Adds ``--out`` and ``--plot``: the folder of what is ``kept``, and that of the figures."""
    command.add_argument("--out", type=Path, metavar="DIR", help=f"folder for {kept}")
    command.add_argument(
        "--plot", type=Path, metavar="DIR", help="write the figures to this folder"
    )


def _conv(text: str) -> str | sr.ConvOperator:
    if text in CONV:
        return text
    try:
        return sr.conv_operator(*map(int, text.split("x")))
    except ValueError:
        known = ", ".join(CONV)
        message = f"it is {text!r}; expected one of {known} or a size such as 32x32"
        raise argparse.ArgumentTypeError(message) from None
