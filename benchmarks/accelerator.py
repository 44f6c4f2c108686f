"""All that an accelerator is to show, in one script of under eight minutes, part by part.

    python -m benchmarks.accelerator --out FOLDER [--parts spectra-384,gpt] [--smallest]

Each part is written to FOLDER as JSON when it is done, and left out where that file exists: an
interrupted run goes on with the next one. FOLDER/table.md has them all. ``--smallest`` runs every
part in a form so small that it says nothing but that the script works.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
# A state, the compiled step of it, and what the step takes besides.
Program = tuple[Any, Any, tuple[Any, ...]]
Prepare = Callable[[optax.GradientTransformation], Program]
POWER_LAW, TENTH = sr.power_law_distance(3.0), sr.power_law_distance(3.0, fraction=0.1)
# A penalty by name: its metric and how it is followed.
PENALTIES: dict[str, tuple[Any, str]] = {
    "log_stable_rank, warm": (sr.log_stable_rank, "warm"),
    "power law, exact": (POWER_LAW, "exact"),
    "power law, warm": (POWER_LAW, "warm"),
    "its top tenth, tail": (TENTH, "tail"),
    "entropy, products": (sr.products_only(sr.matrix_entropy), "exact"),
}
EXACT = "power law, exact"
EVERIES = (1, 5, 10)
ALL = [(name, every) for name in PENALTIES for every in EVERIES]
SIDES = {384: (4096, 384), 1024: (1024, 1024), 2048: (2048, 2048), 4096: (4096, 4096)}


def _compiled(step: Callable[..., Any], *arguments: Any) -> Any:
    """The step of a state that it may overwrite."""
    return jax.jit(step, donate_argnums=0).lower(*arguments).compile()


def _megabytes(compiled: Any) -> float:
    """What a program needs beside its state."""
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def spectra(shape: tuple[int, int], num_calls: int) -> list[Row]:
    """A penalty's update of one matrix that moves by 0.3 % noise a step, each way of following."""
    size = shape[0] ** -0.5

    def prepare(name: str) -> tuple[Program, float]:
        metric, tracking = PENALTIES[name]
        penalty = sr.add_spectral_penalty(metric, 1.0, tracking=tracking)

        def step(state: Any, key: jax.Array) -> Any:
            W, count, of_penalty, _ = state
            noise = jax.random.normal(jax.random.fold_in(key, count), shape)
            W = W + 0.003 * size * noise
            zero = {"kernel": jnp.zeros_like(W)}
            updates, of_penalty = penalty.update(zero, of_penalty, {"kernel": W})
            return W, count + 1, of_penalty, updates["kernel"]

        W = size * jax.random.normal(jax.random.key(0), shape)
        state = (W, jnp.zeros((), jnp.int32), penalty.init({"kernel": W}), jnp.zeros_like(W))
        start = time.perf_counter()
        compiled = _compiled(step, state, jax.random.key(1))
        return (state, compiled, (jax.random.key(1),)), time.perf_counter() - start

    with ThreadPoolExecutor() as pool:
        programs = dict(zip(PENALTIES, pool.map(prepare, PENALTIES), strict=True))
    rows: list[Row] = []
    for name, ((state, compiled, rest), compiling) in programs.items():
        times = []
        # The first call starts the tracking; the others are timed together.
        for number in (1, num_calls, num_calls, num_calls):
            start = time.perf_counter()
            for _ in range(number):
                state = compiled(state, *rest)
            jax.block_until_ready(state)
            times.append((time.perf_counter() - start) / number)
        rows.append(
            {
                "what": f"{shape[0]} x {shape[1]}",
                "penalty": name,
                "ms": 1e3 * float(np.median(times[1:])),
                "start ms": 1e3 * times[0],
                "compile s": compiling,
                "MB": _megabytes(compiled),
            }
        )
    (exact,) = (row["ms"] for row in rows if row["penalty"] == EXACT)
    return [row | {"exact over it": exact / row["ms"]} for row in rows]


def steps(
    what: str,
    prepare: Prepare,
    mask: Any,
    rounds: int,
    which: Sequence[tuple[str, int]] = ALL,
) -> list[Row]:
    """A training step with each penalty at each ``every``, in turns with one that has none."""
    penalties = {"none": optax.identity(), "none, again": optax.identity()}
    for name, every in which:
        metric, tracking = PENALTIES[name]
        penalties[f"{name}, every={every}"] = sr.add_spectral_penalty(
            metric, 1e-4, mask=mask, tracking=tracking, every=every
        )
    # Compilation leaves most of a machine's cores alone.
    with ThreadPoolExecutor() as pool:
        programs = dict(zip(penalties, pool.map(prepare, penalties.values()), strict=True))
    runs = {name: _run(program) for name, program in programs.items()}
    seconds = in_turns(runs, rounds, 10 if len(which) > 1 else 1)
    base = seconds["none"]
    return [
        {
            "what": what,
            "penalty": name,
            "ms": 1e3 * float(np.median(times)),
            "over none": float(np.median(times / base)),
            "MB": _megabytes(programs[name][1]),
        }
        for name, times in seconds.items()
    ]


def _run(program: Program) -> Run:
    state, compiled, rest = program

    def one() -> Any:
        nonlocal state
        state, outcome = compiled(state, *rest)
        return outcome

    return timed(one)


def _images(batch_size: int) -> tuple[jax.Array, jax.Array, np.ndarray]:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch_size, 28, 28, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(10, size=batch_size), jnp.int32)
    return images, labels, np.arange(batch_size, dtype=np.int32)


def alexnet(batch_size: int) -> Prepare:
    """MiniAlexNet on random images."""
    config = Config("digits", batch_size, 1, batch_size, epochs=1)
    rest = _images(batch_size)

    def prepare(penalty: optax.GradientTransformation) -> Program:
        graph, params, batch_stats = initial(config)
        optimizer = optax.chain(penalty, optax.sgd(0.01, momentum=0.9))
        state = State(params, batch_stats, optimizer.init(params))
        return state, _compiled(make_step(graph, optimizer, config.loss), state, *rest), rest

    return prepare


def transformer(batch_size: int, **options: Any) -> Prepare:
    """The language model, its blocks scanned."""
    context = options["context"]
    train, _ = language_model.texts()
    batch = language_model.batch_of(
        train, np.random.default_rng(0), batch_size=batch_size, context=context
    )

    def prepare(penalty: optax.GradientTransformation) -> Program:
        graph, params = language_model.initial(scanned=True, **options)
        optimizer = optax.chain(penalty, optax.adamw(1e-4))
        of_model = language_model.make_step(graph, optimizer)

        def step(state: Any, batch: jax.Array) -> Any:
            params, opt_state = state
            params, opt_state, loss = of_model(params, opt_state, batch)
            return (params, opt_state), loss

        state = (params, optimizer.init(params))
        return state, _compiled(step, state, batch), (batch,)

    return prepare


def ensemble(num_seeds: int, batch_size: int, rounds: int) -> list[Row]:
    """A step of several networks as one, by ``vmap``, and one after the other."""
    config = Config("digits", batch_size, 1, batch_size, epochs=1)
    images, labels, batch = _images(batch_size)
    graph, params, batch_stats = initial(config)
    penalty = sr.add_spectral_penalty(
        POWER_LAW, 1e-4, mask=sr.by_path("fc1/kernel", "fc2/kernel"), tracking="warm"
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
                "tiny GPT", transformer(2, **tiny), blocks, 1, [("power law, warm", 2)]
            ),
            "ensemble": partial(ensemble, 2, 2, 1),
        }
    gpt = {"num_blocks": 12, "width": 768, "context": 512, "num_heads": 12}
    # An exact penalty of the transformer decomposes 72 matrices.
    of_gpt = [(name, every) for name, every in ALL if name != EXACT or every == 10]
    return {
        "spectra-384": partial(spectra, SIDES[384], 20),
        "alexnet-128": lambda: steps("MiniAlexNet, b = 128", alexnet(128), dense, 7),
        "gpt": lambda: steps("GPT, 12 blocks of 768", transformer(16, **gpt), blocks, 3, of_gpt),
        "spectra-4096": partial(spectra, SIDES[4096], 2),
        "alexnet-32": lambda: steps("MiniAlexNet, b = 32", alexnet(32), dense, 7),
        "spectra-1024": partial(spectra, SIDES[1024], 10),
        "ensemble": partial(ensemble, 8, 32, 5),
        "spectra-2048": partial(spectra, SIDES[2048], 4),
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
