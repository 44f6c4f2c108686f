"""Our numbers beside the papers', and which of their claims hold: from finished cells alone.

    python -m examples.paper_table --preset original --plot-only --cells FOLDER --cells FOLDER

Reads the cells of `batch_size`, `learning_rate` and `training_dynamics` at a preset, and those of
`explicit_penalty` for the effects of penalties. Without `--plot-only` it trains what is missing.
`--write FILE` puts the tables between the marks in a Markdown file.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

import fitting
from examples import batch_size, learning_rate
from examples import training_dynamics as dynamics
from examples.papers import claims
from examples.papers import published_runs as paper
from examples.presenting import report
from examples.presenting.record import shown, with_error
from examples.presenting.rows import Group, Row, groups, test_accuracy, train_accuracy
from examples.sweeping import command, sweep
from examples.sweeping.cells import every
from examples.sweeping.presets import Preset
from examples.training.config import Config
from examples.training.measures import LOCALIZATION
from examples.training.networks import LAYERS
from fitting._whole_file import written_whole

BEGIN, END = "<!-- paper_table: begin -->", "<!-- paper_table: end -->"


def plan(preset: Preset, options: argparse.Namespace) -> sweep.Plan:
    """Lists the runs of the three experiments."""
    plans = [each.plan(preset, options) for each in (batch_size, learning_rate, dynamics)]
    return lambda found: [config for each in plans for config in each(found)]


def _mean(group: Group, of: Callable[[Row], float], style: str) -> str:
    return with_error(group.mean(of), group.error(of), style)


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def pooled(group: Group, layer: str) -> fitting.PooledSpectrum | None:
    """The spectra of all seeds as one; None if a seed diverged."""
    spectra = [row.layers[layer].eigenvalues for row in group.rows]
    if not all(np.isfinite(spectrum).all() for spectrum in spectra):
        return None
    return fitting.pool_spectra(spectra, LAYERS[group.config.network][layer])


def sweep_table(by_size: dict[int, Group], layer: str) -> str:
    """One layer over batch sizes: the mean of the runs, the pool of them, the paper's number."""

    def of(name: str) -> Callable[[Row], float]:
        return lambda row: getattr(row.layers[layer], name)

    lines = []
    for size, group in by_size.items():
        theirs = paper.SWEEP.get(size, paper.Sweep())
        pool = pooled(group, layer)
        first = layer == "fc1"
        line = [
            str(size),
            _mean(group, of("stable_rank"), ".1f"),
            shown(pool.stable_rank if pool else None, ".1f"),
            *([shown(theirs.stable_rank, ".1f")] if first else []),
            _mean(group, of("mp_soft_rank"), ".2f"),
            shown(pool.mp_soft_rank if pool else None, ".2f"),
            *([shown(theirs.mp_soft_rank, ".2f")] if first else []),
            _mean(group, of("num_spikes"), ".1f"),
            shown(theirs.spikes if first else theirs.spikes_fc2, ".1f"),
            _mean(group, of("entropy"), ".4f"),
            group.phase(layer),
            *([theirs.phase or "–"] if first else []),
        ]
        lines.append(line)
    given = ["paper"] if layer == "fc1" else []
    header = ["b", "stable rank", "pooled", *given, "MP soft rank", "pooled", *given]
    return _markdown([*header, "spikes", "paper", "entropy", "phase", *given], lines)


def accuracy_table(by_size: dict[int, Group]) -> str:
    """Accuracies over batch sizes."""
    lines = [
        [
            str(size),
            str(len(group.rows)),
            str(group.config.epochs),
            _mean(group, train_accuracy, ".3f"),
            shown(paper.SWEEP.get(size, paper.Sweep()).train, ".3f"),
            _mean(group, test_accuracy, ".3f"),
            shown(paper.SWEEP.get(size, paper.Sweep()).test, ".3f"),
        ]
        for size, group in by_size.items()
    ]
    return _markdown(["b", "seeds", "epochs", "train", "paper", "test", "paper"], lines)


def runs_table(runs: dict[str, Group]) -> str:
    """The baseline with and without explicit regularization, its start and its end."""
    lines = []
    for name, theirs in paper.RUNS.items():
        group = runs.get("baseline" if name == "start" else name)
        if group is None:
            continue
        index = 0 if name == "start" else -1
        ours: list[str] = []
        for of, numbers, style in (
            (dynamics.stable_rank, theirs.stable_rank, ".1f"),
            (dynamics.entropy, theirs.entropy, ".4f"),
        ):
            for layer, number in zip(dynamics.LAYERS, numbers, strict=True):
                mean = float(np.mean([of(row.cell, layer)[index] for row in group.rows]))
                ours += [f"{shown(mean, style)} / {shown(number, style)}"]
        test = "–" if index == 0 else shown(group.mean(test_accuracy), ".3f")
        lines.append([name, *ours, f"{test} / {shown(theirs.test, '.3f')}"])
    header = ["run (ours / paper)", "FC1 stable rank", "FC2", "FC1 entropy", "FC2", "test"]
    return _markdown(header, lines)


def localization_table(group: Group) -> str:
    """How localized bulk and spikes of the baseline's FC1 are."""
    lines = []
    for measure, (bulk, spikes) in paper.LOCALIZATION.items():
        line = [measure.replace("_", " ")]
        for part, number in (("bulk", bulk), ("spikes", spikes)):
            column = LOCALIZATION.index(f"{part}_{measure}")
            values = [row.cell.arrays["localization_fc1"][-1][column] for row in group.rows]
            line.append(f"{shown(float(np.mean(values)), '.3f')} / {number}")
        lines.append(line)
    return _markdown(["FC1 (ours / paper)", "bulk", "spikes"], lines)


def claims_table(decided: Sequence[claims.Claim]) -> str:
    """The claims, and whether they hold."""
    words = {True: "holds", False: "does not hold", None: "not decided"}
    lines = []
    for claim in decided:
        word = "not run" if claim.evidence == claims.NOT_RUN else words[claim.holds]
        lines.append([claim.name, claim.text, word, claim.evidence])
    return _markdown(["", "claim", "", "ours"], lines)


def _seedless(config: Config) -> Config:
    return dataclasses.replace(config, seed=0)


def tables(finished: command.Finished) -> list[str]:
    """Makes all tables that there are cells for."""
    preset = finished.preset
    measured = {_seedless(group.config): group for group in groups(finished.cells.values())}

    def pick(configs: dict) -> dict:
        seedless = {name: _seedless(config) for name, config in configs.items()}
        return {name: measured[c] for name, c in seedless.items() if c in measured}

    base = preset.baseline
    by_size = pick({b: preset.at(b) for b in preset.batch_sizes})
    middle = preset.at(preset.rate_batch_size)
    by_rate = pick({r: dataclasses.replace(middle, learning_rate=r) for r in preset.learning_rates})
    runs = pick(dynamics.variants(preset))
    cells = list(every(finished.where, Config))
    plain = [row.cell for group in by_size.values() for row in group.rows]
    decided = [
        claims.start(plain),
        *claims.batch_sizes(by_size),
        *claims.explicit(runs, cells),
        *claims.penalties(cells),
        claims.learning_rates(by_rate),
    ]
    seeds = max((len(group.rows) for group in measured.values()), default=0)
    parts = [
        f"{report.network(base)}, {report.epochs(measured.values())}, {base.loss},"
        f" init {base.init}; up to {seeds} seeds. Means over the runs with standard errors; pooled:"
        " all seeds' eigenvalues as one spectrum, as the papers have it, with the bulk's edge from"
        " the runs one by one."
    ]
    if by_size:
        parts += ["**FC1**", sweep_table(by_size, "fc1"), "**FC2**", sweep_table(by_size, "fc2")]
        parts += ["**Accuracy**", accuracy_table(by_size)]
    if runs:
        parts += [f"**Explicit regularization, b = {base.batch_size}**", runs_table(runs)]
    if "baseline" in runs:
        parts += ["**Localization**", localization_table(runs["baseline"])]
    return [*parts, "**Claims**", claims_table(decided)]


def put(text: str, path: Path) -> Path:
    """Replaces what stands between the marks in a file.

    Raises:
        OSError: The file has no such marks.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise OSError(f"{path} is without marks; expected the lines {BEGIN} and {END}")
    with written_whole(path) as unfinished:
        unfinished.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return path


def present(finished: command.Finished) -> Sequence[Path]:
    """Prints the tables, and writes them."""
    origin = report.origins(list(finished.cells.values()), finished.command)
    text = "\n\n".join([*tables(finished), "\n".join(origin).strip()])
    print(text)
    path = finished.folder / "paper_table.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    return [path, *([put(text, finished.options.write)] if finished.options.write else [])]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script's own argument."""
    parser.add_argument("--write", type=Path, help="Markdown file with the marks to write between")


EXPERIMENT = command.Experiment(
    "paper_table", __doc__.splitlines()[0], plan, present, arguments=arguments
)


def main(arguments: Sequence[str] | None = None, *, executor: Executor | None = None) -> int:
    """Runs the command line; gives its exit code."""
    return command.main(EXPERIMENT, arguments, executor=executor)


if __name__ == "__main__":
    sys.exit(main())
