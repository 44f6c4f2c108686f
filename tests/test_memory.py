"""A process that keeps its memory meets fewer pages, and says so."""

import platform
import subprocess
import sys

import pytest

from examples.training import memory

FAULTS = """
import resource, sys
from examples.training.memory import keep_freed
import numpy as np

if sys.argv[1] == "keep":
    assert keep_freed()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**25, np.int8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_freed()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
def test_memory_that_was_freed_is_used_again():
    faults = {
        way: int(subprocess.check_output([sys.executable, "-c", FAULTS, way], text=True))
        for way in ("keep", "do not")
    }
    assert faults["keep"] <= 0.2 * faults["do not"]
