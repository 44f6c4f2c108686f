"""Experiments with spectral_reg and fitting, run from the repository's root."""

import os

# JAX's decompositions on the CPU are those of SciPy's OpenBLAS, whose threads and XLA's wait for
# one another; on a busy machine for seconds. It has to be set before SciPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
