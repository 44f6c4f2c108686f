"""What a user of the bare wheel gets: penalties, and a line that names the extra of the rest."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr

assert (Path(sr.__file__).parent / "py.typed").exists()
assert "site-packages" in sr.__file__, f"{sr.__file__} is not the wheel's"
for name in ("torch", "flax", "numba", "pandas", "matplotlib", "powerlaw", "rich", "tqdm"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed; this is to do without"

noise = np.random.default_rng(0).normal(size=(300, 100)).astype("float32")
params = {"fc": {"kernel": jnp.asarray(noise)}}
for metric in (sr.log_stable_rank, sr.alpha, sr.spectral_metric(sr.soft_csn())):
    value, gradient = jax.jit(jax.value_and_grad(lambda p, m=metric: sr.spectral_penalty(p, m)))(
        params
    )
    assert value > 1, (metric, value)
    assert jnp.isfinite(gradient["fc"]["kernel"]).all(), metric
for tracking in ("exact", "warm"):
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.target(sr.alpha, 2.5), 1.0, tracking=tracking), optax.adam(1e-2)
    )
    trained, state = params, optimizer.init(params)
    step = jax.jit(lambda s, p, o=optimizer: o.update(jax.tree.map(jnp.zeros_like, p), s, p))
    for _ in range(5):
        updates, state = step(state, trained)
        trained = optax.apply_updates(trained, updates)
    before, after = (float(sr.alpha(p["fc"]["kernel"])) for p in (params, trained))
    assert abs(after - 2.5) < abs(before - 2.5), (tracking, before, after)

python = Path(sys.executable)
extra = "pip install 'spectral-reg[fitting]'"
for command, said in (
    ([python, "-c", "import fitting"], "ImportError: fitting needs "),
    ([python, "-m", "fitting", "--help"], "ImportError: fitting needs "),
    ([python.with_name("spectral-reg"), "--help"], "spectral-reg: fitting needs "),
):
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1, done
    assert said in last, done.stderr
    assert extra in last, done.stderr
assert len(done.stderr.splitlines()) == 1, done.stderr

names = ("jax", "optax", "numpy")
found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
print(f"the bare wheel works: Python {'.'.join(map(str, sys.version_info[:3]))}, {found}")
