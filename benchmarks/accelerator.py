"""All that an accelerator is to show, in one script of under eight minutes, part by part.

    python -m benchmarks.accelerator --out FOLDER [--parts spectra-384,gpt] [--smallest]

Each part is written to FOLDER as JSON when it is done, and left out where that file exists: an
interrupted run goes on with the next one. FOLDER/table.md has them all. ``--smallest`` runs every
part in a form so small that it says nothing but that the script works.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spectral_reg as sr
from benchmarks.turns import Run, in_turns, timed
from examples.training import language_model
from examples.training.config import Config
from examples.training.steps import State, initial, make_step

Row = dict[str, Any]
TENTH = sr.spectral_metric(sr.smooth_hill(low=0.02, high=0.1))
# A penalty by name: its metric and how it is followed.
PENALTIES: dict[str, tuple[Any, str]] = {
    "log_stable_rank, warm": (sr.log_stable_rank, "warm"),
    "alpha, exact": (sr.alpha, "exact"),
    "alpha, warm": (sr.alpha, "warm"),
    "top tenth, tail": (TENTH, "tail"),
    "entropy, products": (sr.products_only(sr.matrix_entropy), "exact"),
}
SIDES = {384: (4096, 384), 1024: (1024, 1024), 2048: (2048, 2048), 4096: (4096, 4096)}


def spectra(shape: tuple[int, int], num_calls: int) -> list[Row]:
    """A penalty's update of one matrix that moves by 0.3 % noise a step, each way of following."""
    rows = []
    key = jax.random.key(0)
    W = jax.random.normal(key, shape) / shape[0] ** 0.5
    for name, (metric, tracking) in PENALTIES.items():
        penalty = sr.add_spectral_penalty(metric, 1.0, tracking=tracking)

        @jax.jit
        def step(W: jax.Array, state: Any, count: int, penalty: Any = penalty) -> Any:
            noise = jax.random.normal(jax.random.fold_in(key, count), W.shape)
            W = W + 0.003 / shape[0] ** 0.5 * noise
            updates, state = penalty.update({"kernel": jnp.zeros_like(W)}, state, {"kernel": W})
            return W, state, updates["kernel"]

        state: Any = penalty.init({"kernel": W})
        start = time.perf_counter()
        compiled = step.lower(W, state, 0).compile()
        compiling, current, times = time.perf_counter() - start, W, []
        # The first starts the tracking.
        for count in range(num_calls + 1):
            start = time.perf_counter()
            current, state, _ = jax.block_until_ready(compiled(current, state, count))
            times.append(time.perf_counter() - start)
        rows.append(
            {
                "what": f"{shape[0]} x {shape[1]}",
                "penalty": name,
                "ms": 1e3 * float(np.median(times[1:])),
                "start ms": 1e3 * times[0],
                "compile s": compiling,
            }
        )
    return _with_ratios(rows, "alpha, exact")


def _with_ratios(rows: list[Row], base: str) -> list[Row]:
    (denominator,) = (row["ms"] for row in rows if row["penalty"] == base)
    return [row | {f"over {base}": row["ms"] / denominator} for row in rows]


def steps(
    what: str,
    prepare: Callable[[optax.GradientTransformation], Run],
    mask: Any,
    rounds: int,
    everies: tuple[int, ...],
    names: tuple[str, ...] = tuple(PENALTIES),
) -> list[Row]:
    """A training step with each penalty at each ``every``, in turns with one that has none."""
    runs = {"none": prepare(optax.identity()), "none, again": prepare(optax.identity())}
    for name in names:
        metric, tracking = PENALTIES[name]
        for every in everies:
            penalty = sr.add_spectral_penalty(
                metric, 1e-4, mask=mask, tracking=tracking, every=every
            )
            runs[f"{name}, every={every}"] = prepare(penalty)
    seconds = in_turns(runs, rounds, 10 if max(everies) > 1 else 1)
    base = seconds["none"]
    return [
        {
            "what": what,
            "penalty": name,
            "ms": 1e3 * float(np.median(times)),
            "over none": float(np.median(times / base)),
        }
        for name, times in seconds.items()
    ]


def alexnet(batch_size: int) -> Callable[[optax.GradientTransformation], Run]:
    """MiniAlexNet on random images."""
    config = Config("digits", batch_size, 1, batch_size, epochs=1)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch_size, 28, 28, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(10, size=batch_size))
    batch = np.arange(batch_size, dtype=np.int32)

    def prepare(penalty: optax.GradientTransformation) -> Run:
        graph, params, batch_stats = initial(config)
        optimizer = optax.chain(penalty, optax.sgd(0.01, momentum=0.9))
        step = jax.jit(make_step(graph, optimizer, config.loss), donate_argnums=0)
        state = State(params, batch_stats, optimizer.init(params))

        def one() -> State:
            nonlocal state
            state, _ = step(state, images, labels, batch)
            return state

        return timed(one)

    return prepare


def transformer(batch_size: int, **options: Any) -> Callable[[optax.GradientTransformation], Run]:
    """The language model, its blocks scanned."""
    context = options["context"]
    train, _ = language_model.texts()
    batch = language_model.batch_of(
        train, np.random.default_rng(0), batch_size=batch_size, context=context
    )

    def prepare(penalty: optax.GradientTransformation) -> Run:
        graph, params = language_model.initial(scanned=True, **options)
        optimizer = optax.chain(penalty, optax.adamw(1e-4))
        step = jax.jit(language_model.make_step(graph, optimizer), donate_argnums=(0, 1))
        state = (params, optimizer.init(params))

        def one() -> jax.Array:
            nonlocal state
            *rest, loss = step(*state, batch)
            state = tuple(rest)
            return loss

        return timed(one)

    return prepare


def ensemble(num_seeds: int, batch_size: int, rounds: int) -> list[Row]:
    """A step of several networks as one, by ``vmap``, and one after the other."""
    config = Config("digits", batch_size, 1, batch_size, epochs=1)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch_size, 28, 28, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(10, size=batch_size))
    batch = np.arange(batch_size, dtype=np.int32)
    graph, params, batch_stats = initial(config)
    penalty = sr.add_spectral_penalty(
        sr.alpha, 1e-4, mask=sr.by_path("fc*/kernel"), tracking="warm"
    )
    optimizer = optax.chain(penalty, optax.sgd(0.01))
    state = State(params, batch_stats, optimizer.init(params))
    step = make_step(graph, optimizer, config.loss)
    all_states = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_seeds), state)
    alone = jax.jit(step)
    together = jax.jit(jax.vmap(step, in_axes=(0, None, None, None)))
    runs = {
        "one by one": timed(
            lambda: [alone(state, images, labels, batch)[0] for _ in range(num_seeds)]
        ),
        "ensemble": timed(lambda: together(all_states, images, labels, batch)[0]),
    }
    seconds = in_turns(runs, rounds, 2)
    return [
        {
            "what": f"{num_seeds} seeds, b = {batch_size}",
            "penalty": name,
            "ms": 1e3 * float(np.median(times)),
            "over one by one": float(np.median(times / seconds["one by one"])),
        }
        for name, times in seconds.items()
    ]


def parts(smallest: bool) -> dict[str, Callable[[], list[Row]]]:
    """What there is to run, by name."""
    dense, blocks = sr.by_path("fc1/kernel", "fc2/kernel"), sr.by_path("blocks/*/kernel")
    if smallest:
        tiny = {"num_blocks": 2, "width": 32, "context": 16}
        return {
            "spectra-24": partial(spectra, (48, 24), 2),
            "gpt": lambda: steps(
                "tiny GPT", transformer(2, **tiny), blocks, 1, (2,), ("alpha, warm",)
            ),
            "ensemble": partial(ensemble, 2, 2, 1),
        }
    gpt = {"num_blocks": 12, "width": 768, "context": 512, "num_heads": 12}
    everies = (1, 5, 10)
    return {
        **{f"spectra-{side}": partial(spectra, shape, 5) for side, shape in SIDES.items()},
        "alexnet-32": lambda: steps("MiniAlexNet, b = 32", alexnet(32), dense, 7, everies),
        "alexnet-128": lambda: steps("MiniAlexNet, b = 128", alexnet(128), dense, 7, everies),
        "gpt": lambda: steps("GPT, 12 blocks of 768", transformer(16, **gpt), blocks, 3, everies),
        "ensemble": partial(ensemble, 8, 32, 5),
    }


def run(name: str, part: Callable[[], list[Row]], folder: Path) -> None:
    """Runs a part that has not been run, and writes what it found."""
    path = folder / f"{name}.json"
    if path.exists():
        return
    start = time.perf_counter()
    rows = part()
    device = jax.devices()[0]
    found = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "seconds": time.perf_counter() - start,
        "peak bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "rows": rows,
    }
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(json.dumps(found, indent=1))
    partial_path.rename(path)
    print(f"{name}: {found['seconds']:.0f} s", flush=True)


def table(folder: Path) -> str:
    """All that has been found, as Markdown."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        lines.append(f"\n## {path.stem}: {found['device']}, jax {found['jax']}\n")
        if found["peak bytes"]:
            lines.append(f"peak {found['peak bytes'] / 1e9:.2f} GB since the start\n")
        columns = list(found["rows"][0])
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in found["rows"]:
            cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Runs what has not been run, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", help="names, separated by commas; all without it")
    parser.add_argument("--smallest", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    known = parts(options.smallest)
    chosen = options.parts.split(",") if options.parts else [*known]
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--parts is {unknown[0]}; expected some of {', '.join(known)}")
    for name in chosen:
        run(name, known[name], options.out)
    text = table(options.out)
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
