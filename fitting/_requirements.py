"""What has to be installed for this package, which the penalties do without."""

import importlib.util
import sys
from pathlib import Path

PACKAGES = (
    "matplotlib", "ml_dtypes", "numba", "pandas", "powerlaw", "rich", "scipy", "threadpoolctl",
    "tqdm",
)  # fmt: skip
COMMAND = "spectral-reg"


def check_installed() -> None:
    """Says which extra to install where a package is missing.

    Raises:
        ImportError: If one is.
        SystemExit: Instead, with the same line, where the command was called in the shell.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    message = (
        f"fitting needs {', '.join(missing)}, which "
        f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'spectral-reg[fitting]'"
    )
    # A reader of the shell gets a line instead of a traceback.
    if Path(sys.argv[0]).stem == COMMAND:
        raise SystemExit(f"{COMMAND}: {message}")
    raise ImportError(message)
