"""The command line: ``spectral-reg evaluate`` and ``spectral-reg compare``."""

from ._main import main as main

__all__ = [
    "main",
]
