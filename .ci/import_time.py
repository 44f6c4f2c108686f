"""Processor seconds that `import spectral_reg` adds to `import jax, optax`: the least of 7 runs."""

import subprocess
import sys

LIMIT = 0.3
CODE = """
import time
import jax, optax
start = time.process_time()
import spectral_reg
print(time.process_time() - start)
"""

times = [
    float(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout)
    for _ in range(7)
]
least = min(times)
print(f"import spectral_reg adds {least:.3f} s (limit {LIMIT}; worst of 7: {max(times):.3f})")
sys.exit(least > LIMIT)
