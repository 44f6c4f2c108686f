"""The command line: ``spectral-reg evaluate`` and ``spectral-reg compare``."""
