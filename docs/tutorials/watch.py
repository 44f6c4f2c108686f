"""Watches a small language model while it trains: scalars at each step, phases beside it.

    python docs/tutorials/watch.py

A transformer of bytes learns the help pages of Python, in a minute on two cores. It needs the
repository: the model is that of `examples/`. With a folder as argument the figures go there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np
import optax

import fitting
import spectral_reg as sr
from examples.training.language_model import batch_of, initial, make_step, texts

smoke = "--smoke" in sys.argv
num_steps, interval = (4, 2) if smoke else (60, 20)
sizes = {"num_blocks": 1, "width": 32, "context": 32} if smoke else {}
folders = [argument for argument in sys.argv[1:] if argument != "--smoke"]

graph, params = initial(0, **sizes)
optimizer = optax.chain(
    sr.watch_spectra([sr.alpha, sr.stable_rank], every=interval, mask=sr.by_path("blocks/*")),
    optax.adamw(3e-3),
)
state = optimizer.init(params)
step = jax.jit(make_step(graph, optimizer), donate_argnums=(0, 1))
text, rng = texts()[0], np.random.default_rng(0)
context = sizes.get("context", 128)

print("step   loss  alpha of the first up  its stable rank")
with fitting.watch_phases(layers=["blocks/*"]) as phases:
    for number in range(num_steps + 1):
        if number % interval == 0:
            phases(number, params, wait=number == num_steps)
        params, state, loss = step(params, state, batch_of(text, rng, context=context))
        if number % interval == 0:
            scalars = sr.spectral_values(state)
            alpha, rank = (
                scalars[f"{name}/blocks/0/up/kernel"] for name in ("alpha", "stable_rank")
            )
            print(f"{number:4} {loss:6.3f} {alpha:22.2f} {rank:16.1f}", flush=True)
    series = phases.series()

print("\nPhases of the matrices, first and last")
for (name, _), table in series.matrices():
    first, last = table.iloc[0], table.iloc[-1]
    ranks = f"stable rank {first['stable_rank']:5.1f} to {last['stable_rank']:5.1f}"
    print(f"{name:24} {first['phase']:14} {last['phase']:14} {ranks}")

for folder in folders:
    series.plot(folder)
