"""The generator that tests draw from, which every test starts at its own name (conftest.py)."""

import zlib

import numpy as np

RNG = np.random.default_rng(0)


def restart(name):
    """So that a test draws the same alone, after others and in any worker."""
    RNG.bit_generator.state = np.random.default_rng(zlib.crc32(name.encode())).bit_generator.state
