"""A process that keeps its memory neither maps what is large nor gives it back, and says so."""

import json
import platform
import subprocess
import sys

import pytest

from examples.training import memory

# What glibc's mallinfo tells of one large block: how many it maps by themselves for it, and the
# bytes of its heap once the block is freed.
ONE_BLOCK = """
import ctypes, sys
from examples.training.memory import keep_freed

class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("arena", "ordblks", "smblks", "hblks")] + [
        ("rest", ctypes.c_int * 6)
    ]

libc = ctypes.CDLL(None)
libc.mallinfo.restype, libc.malloc.restype = MallInfo, ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "keep":
    assert keep_freed()
before = libc.mallinfo().hblks
block = libc.malloc(2**25)
mapped = libc.mallinfo().hblks - before
libc.free(block)
print([mapped, libc.mallinfo().arena])
"""


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_freed()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
@pytest.mark.parametrize(("way", "mapped"), [("keep", 0), ("do not", 1)])
def test_a_large_block_is_mapped_for_itself_unless_memory_is_kept(way, mapped):
    told = subprocess.check_output([sys.executable, "-c", ONE_BLOCK, way], text=True)
    found, heap = json.loads(told)
    assert (found, heap >= 2**25) == (mapped, way == "keep")
