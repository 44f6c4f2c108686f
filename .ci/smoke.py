"""What a user of the wheel with its extra [fitting] gets, without the tests' requirements."""

import importlib.metadata
import importlib.util
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import fitting
import spectral_reg as sr

for package in (fitting, sr):
    assert (Path(package.__file__).parent / "py.typed").exists(), package
    assert "site-packages" in package.__file__, f"{package.__file__} is not the wheel's"
assert importlib.util.find_spec("torch") is None, "torch is installed; this is to do without"

if importlib.util.find_spec("flax"):
    from flax import nnx

    model = nnx.Linear(80, 60, rngs=nnx.Rngs(0))
    gradients = nnx.grad(lambda m: sr.spectral_penalty(m, sr.stable_rank))(model)
    assert jnp.isfinite(gradients.kernel[...]).all()
    assert len(fitting.evaluate(model, progress=False).layers) == 1

noise = np.random.default_rng(0).normal(size=(300, 100)).astype("float32")
with tempfile.TemporaryDirectory() as folder:
    np.savez(f"{folder}/model.npz", **{"fc/kernel": noise})
    report = fitting.evaluate(f"{folder}/model.npz", num_bootstrap=20, progress=False)
    assert report.layers.loc[0, "phase"] == "RANDOM_LIKE"
    assert fitting.load_report(report.save(f"{folder}/report.json")).layers.equals(report.layers)
    assert report.to_html(f"{folder}/report.html").stat().st_size
    assert len(report.plot(f"{folder}/figures", progress=False)) == 3
    comparison = fitting.compare({"one": report, "other": report})
    assert len(comparison.values) == 2
fit = fitting.fit_power_law((1 - (np.arange(500) + 0.5) / 500) ** -0.5)
assert abs(fit.alpha - 3) < 0.01, fit
assert abs(fit.to_powerlaw().power_law.alpha - fit.alpha) < 1e-9

names = ("jax", "optax", "flax", "numpy", "scipy", "numba", "pandas", "matplotlib", "powerlaw")
found = {n: importlib.metadata.version(n) for n in names if importlib.util.find_spec(n)}
python = ".".join(map(str, sys.version_info[:3]))
print(f"the full wheel works: Python {python},", ", ".join(map(" ".join, found.items())))
