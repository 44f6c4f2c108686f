"""What the C library does with the memory that a training step leaves."""

import ctypes
import platform

# Parameters of glibc's mallopt, from its malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Has this process keep the memory that it frees, and use it again.

    XLA asks for its intermediate results anew at every step. By default glibc maps what is large
    for each and unmaps it afterwards, and the system fills every page of it with zeros, page by
    page: a third of the processor time of a step of MiniAlexNet. Call it before JAX starts its
    threads. The process then stays as large as it once was.

    Returns:
        Whether it does. Where there is no glibc, nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28))
    return all(mallopt(*setting) == 1 for setting in settings)
