"""Downloads CIFAR-10 and MNIST from their authors, or from a mirror.

python -m examples.downloads cifar10 --data-dir FOLDER
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from examples.training.data import CIFAR10_ARCHIVE, DataError


class Source(NamedTuple):
    """Where a data set is.

    Attributes:
        address: Folder on the web.
        subfolder: Of the local folder.
        checksums: By file.
    """

    address: str
    subfolder: str
    checksums: dict[str, str]


SOURCES = {
    # The checksum is the one of https://www.cs.toronto.edu/~kriz/cifar.html.
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/",
        ".",
        {CIFAR10_ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"},
    ),
    # The copy that TensorFlow and others read; the authors' page refuses programs.
    "mnist": Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "mnist",
        {
            "train-images-idx3-ubyte.gz": (
                "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1-ubyte.gz": (
                "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3-ubyte.gz": (
                "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
    ),
}


def fetch(name: str, folder: Path | None = None, *, progress: bool = True) -> Path:
    """Downloads a data set, unless it is there.

    A file appears under its name when it is complete and its checksum is right. A file that is
    there with another checksum is taken for damaged, and fetched again. An unpacked CIFAR-10 is
    taken as it is.

    Args:
        name: `"cifar10"` or `"mnist"`.
        folder: Where to; by default the user's cache.
        progress: Whether to draw a bar.

    Returns:
        The folder, as `data.load` takes it.

    Raises:
        DataError: The name is unknown, the network or the server fails, or the checksum is wrong.
    """
    if name not in SOURCES:
        raise DataError(f"name is {name!r}; expected one of {', '.join(SOURCES)}")
    if name == "cifar10" and folder and (folder / "cifar-10-batches-bin").is_dir():
        return folder
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    source = SOURCES[name]
    folder = folder or Path(pooch.os_cache("spectral-reg"))
    keeper = pooch.create(
        folder / source.subfolder,
        source.address,
        registry=source.checksums,
    )
    for file in source.checksums:
        try:
            keeper.fetch(file, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30))
        except ValueError as error:
            # Pooch's message gives both checksums.
            raise DataError(
                f"{source.address}{file} is another file, or was cut short ({error}); expected"
                f" {source.checksums[file]}; nothing was kept: try again, or put the file into"
                f" {keeper.path} by hand"
            ) from error
        except (requests.RequestException, OSError) as error:
            raise DataError(
                f"{source.address}{file} is out of reach ({error}); expected a download; check the"
                f" network, or put the file into {keeper.path} by hand"
            ) from error
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.downloads", description="Downloads CIFAR-10 or MNIST."
    )
    parser.add_argument("name", choices=SOURCES)
    parser.add_argument("--data-dir", type=Path, help="default: the user's cache")
    options = parser.parse_args(arguments)
    try:
        print(fetch(options.name, options.data_dir))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
