"""What a penalty or a watch adds to the time to trace and compile a step, and to its program.

    python -m benchmarks.compile [--blocks 4,12,24,48] [--width 128] [--steps 0]

AdamW's update alone, without a model: a list of blocks of six matrices each in three shapes, as in
``examples.training.language_model``, or the same stacked for a scan. Processor time of tracing and
compiling, the size of the compiled program's text, and what a step takes (medians of ``--steps``).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import spectral_reg as sr

TAIL = sr.spectral_metric(sr.smooth_hill(low=0.02, high=0.1))
RATIO = sr.linear_ratio(0.5, 1.5)
METRICS = [sr.alpha, sr.stable_rank, sr.matrix_entropy]
SETTINGS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "AdamW alone": optax.identity,
    "alpha, exact": partial(sr.add_spectral_penalty, sr.alpha, 1e-3),
    "alpha, warm": partial(sr.add_spectral_penalty, sr.alpha, 1e-3, tracking="warm"),
    "top tenth, tail": partial(sr.add_spectral_penalty, TAIL, 1e-3, tracking="tail"),
    "log_stable_rank, warm": partial(
        sr.add_spectral_penalty, sr.log_stable_rank, 1e-3, tracking="warm"
    ),
    "entropy, products": partial(
        sr.add_spectral_penalty, sr.products_only(sr.matrix_entropy), 1e-3
    ),
    "watch of three": partial(sr.watch_spectra, METRICS),
    "watch of three, warm": partial(sr.watch_spectra, METRICS, tracking="warm"),
    "layer factors": partial(sr.scale_by_layer_spectra, RATIO),
}


def weights(num_blocks: int, width: int, scanned: bool) -> dict[str, Any]:
    """The matrices of some blocks, of random entries."""
    shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}

    def block(number: int, lead: tuple[int, ...]) -> dict[str, Any]:
        keys = jax.random.split(jax.random.key(number), len(shapes))
        return {
            name: {"kernel": jax.random.normal(key, (*lead, *shape)) / width**0.5}
            for key, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    if scanned:
        return {"blocks": block(0, (num_blocks,))}
    return {"blocks": {str(number): block(number, ()) for number in range(num_blocks)}}


def measure(
    setting: Callable[..., optax.GradientTransformation], params: Any, num_steps: int
) -> tuple[float, float, float]:
    """Seconds to trace and compile the update, megabytes of its program, and seconds of a step."""
    optimizer = optax.chain(setting(), optax.adamw(1e-3))
    state = jax.jit(optimizer.init)(params)
    grads = jax.tree.map(jnp.zeros_like, params)
    jax.clear_caches()
    start = time.process_time()
    update = jax.jit(optimizer.update).lower(grads, state, params).compile()
    seconds = time.process_time() - start
    megabytes = len(update.as_text()) / 1e6
    times = []
    for number in range(num_steps + 2 if num_steps else 0):
        start = time.perf_counter()
        _, state = jax.block_until_ready(update(grads, state, params))
        if number >= 2:
            times.append(time.perf_counter() - start)
    return seconds, megabytes, statistics.median(times) if times else float("nan")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", default="4,12,24,48")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=0, help="of the update, to time")
    parser.add_argument("--settings", default=",".join(map(str, range(len(SETTINGS)))))
    options = parser.parse_args()
    chosen = [list(SETTINGS)[int(number)] for number in options.settings.split(",")]
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, width {options.width}")
    print(f"{'blocks':>6} {'layout':8}{'penalty':24}{'compile s':>10}{'MB':>8}{'step ms':>9}")
    for num_blocks in map(int, options.blocks.split(",")):
        for scanned in (False, True):
            params = weights(num_blocks, options.width, scanned)
            for name in chosen:
                seconds, megabytes, step = measure(SETTINGS[name], params, options.steps)
                layout = "scanned" if scanned else "list"
                print(
                    f"{num_blocks:6} {layout:8}{name:24}{seconds:10.1f}{megabytes:8.2f}"
                    f"{step * 1e3:9.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
