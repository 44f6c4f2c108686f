"""The runner that all experiments share: cells, jobs, resuming, executors."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_training import fake_train

from examples import batch_size
from examples.presenting import rows
from examples.sweeping import cells, command, sweep
from examples.sweeping.presets import PRESETS, equal_updates
from examples.training.config import Config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of one real smoke run."""
    folder = tmp_path_factory.mktemp("smoke")
    assert batch_size.main(["--preset", "smoke", "--out", str(folder)]) == 0
    return folder


def runs(*arguments):
    parser = command.make_parser(batch_size.EXPERIMENT)
    options = parser.parse_args(["--preset", "smoke", *arguments])
    preset = PRESETS["smoke"]._replace(num_seeds=options.seeds or 1)
    return batch_size.plan(preset, options)({})


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def test_smoke_run_leaves_a_cell_a_run_its_figures_and_its_record(smoke):
    found = cells.find(smoke, runs())
    assert list(found) == runs()
    for cell in found.values():
        assert len(cell.metrics["train_loss"]) == len(cell.metrics["test_accuracy"]) == 1
        assert cell.arrays["fc1"].shape == (2, 64)
        assert cell.arrays["localization_fc2"].shape == (2, 7)
        assert cell.wall_time > 0
        assert cell.origin["versions"]["jax"]
    for name in ("ranks", "localization", "spectra", "spectra_fc2"):
        assert (smoke / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    record = (smoke / "results.md").read_text()
    assert "`python -m examples.batch_size --preset smoke --data digits --seed 0`" in record
    assert "RANDOM_LIKE" in record
    assert len((smoke / "results.csv").read_text().splitlines()) == 1 + 2 * len(found)


def test_penalty_starts_from_the_same_weights_and_lowers_the_stable_rank(smoke):
    measured = [rows.row(cell) for cell in cells.find(smoke, runs()).values()]
    plain, penalized = measured[0], measured[-1]
    assert penalized.cell.config.penalty
    for name in plain.layers:
        start, other = (row.cell.arrays[name][0] for row in (plain, penalized))
        np.testing.assert_array_equal(start, other)
        assert penalized.layers[name].stable_rank < plain.layers[name].stable_rank - 0.1


def test_resuming_trains_what_is_missing_and_nothing_else(smoke, tmp_path, trained, capsys):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    before = contents(folder)
    gone = next(name for name in before if "log_stable_rank" in name)
    (folder / gone).unlink()
    for _ in range(2):
        assert batch_size.main(["--preset", "smoke", "--out", str(folder)]) == 0
    told = capsys.readouterr().err
    assert "batch_size: trains 1 run, 64 images; then a table and figures\n" in told
    assert "batch_size: draws finished runs\n" in told
    assert trained == [runs()[-1]]
    after = contents(folder)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name != gone)


def test_cells_of_other_folders_count_and_new_ones_go_to_the_first(smoke, tmp_path, trained):
    first, out = tmp_path / "first", tmp_path / "out"
    arguments = ["--out", out, "--cells", first, "--cells", smoke, "--seeds", "2"]
    assert batch_size.main(["--preset", "smoke", *map(str, arguments)]) == 0
    assert [config.seed for config in trained] == [1, 1, 1]
    assert len(contents(first)) == 3
    assert contents(out) == {}
    assert (out / "ranks.png").exists()


def test_a_cell_of_another_configuration_is_neither_reused_nor_lost(smoke):
    changed = [dataclasses.replace(config, learning_rate=0.02) for config in runs()]
    assert cells.find(smoke, changed) == {}
    assert len(cells.find(smoke, runs())) == 3


def test_a_cell_written_before_a_field_was_added_has_its_default(smoke):
    @dataclasses.dataclass(frozen=True)
    class Later(Config):
        new_field: int = 3

    later = Later(**dataclasses.asdict(runs()[0]))
    assert list(cells.find(smoke, [later, dataclasses.replace(later, new_field=4)])) == [later]


def test_a_cell_of_the_first_release_still_loads(tmp_path):
    config = {
        "data": "cifar10",
        "train_size": 2000,
        "test_size": 10_000,
        "batch_size": 32,
        "epochs": 25,
        "seed": 3,
        "loss": "mse",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "init": "glorot",
        "penalty": "l2",
        "strength": 1e-4,
        "network": "mini_alexnet",
        "optimizer": "sgd",
        "decay": 1.0,
        "norm_matched": False,
        "dense_norm": False,
        "random_labels": 0.0,
        "validation_size": 0,
    }
    record = {"config": config, "metrics": {"epochs": [0]}, "wall_time": 2.0, "origin": {}}
    spectrum = np.ones((1, 384))
    np.savez(tmp_path / "b32-l2-0.0001-seed3-5d8ed1c7.npz", record=json.dumps(record), fc1=spectrum)
    wanted = Config("cifar10", 2000, 10_000, 32, 25, 3, "mse", 0.1, penalty="l2", strength=1e-4)
    (cell,) = cells.find(tmp_path, [wanted]).values()
    np.testing.assert_array_equal(cell.arrays["fc1"], spectrum)


def test_damaged_and_half_written_files_are_no_cells(smoke, tmp_path):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    whole = sorted(folder.glob("*.npz"))[0]
    whole.write_bytes(whole.read_bytes()[:5000])
    (folder / "empty.npz").touch()
    np.savez(folder / "foreign.npz", a=np.ones(2))
    (folder / ".b32.npz.123").write_bytes(b"half")
    assert len(cells.find(folder, runs())) == 2


def test_a_failed_write_leaves_nothing(tmp_path):
    config = runs()[0]
    with pytest.raises(TypeError):
        cells.write(tmp_path, cells.Cell(config, {"bad": object()}, {}, 1.0, {}), label="b32")
    cell = cells.Cell(config, {}, {"bad": np.array([lambda: 0])}, 1.0, {})
    with pytest.raises((AttributeError, TypeError)):
        cells.write(tmp_path, cell, label="b32")
    assert list(tmp_path.iterdir()) == []


def test_interrupt_keeps_the_finished_cells_and_says_so(tmp_path, monkeypatch, capsys):
    def interrupted(config, *rest, **kept):
        if config.penalty:
            raise KeyboardInterrupt
        return fake_train(config, *rest, **kept)

    monkeypatch.setattr(sweep, "train", interrupted)
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path)]) == 130
    assert "2 of 3 cells are finished" in capsys.readouterr().err
    assert list(cells.find(tmp_path, runs())) == runs()[:2]
    assert len(list(tmp_path.iterdir())) == 2


def test_kill_loses_at_most_the_cell_in_hand(tmp_path):
    program = f"""
import time
from examples import batch_size
from examples.sweeping import sweep
from fake_training import fake_train
def train(config, *rest, **kept):
    if config.penalty:
        print("last cell", flush=True)
        time.sleep(100)
    return fake_train(config, *rest, **kept)
sweep.train = train
batch_size.main(["--preset", "smoke", "--out", {str(tmp_path / "out")!r}])
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "last cell\n"
        process.send_signal(signal.SIGKILL)
    assert list(cells.find(tmp_path / "out", runs())) == runs()[:2]


def test_any_executor_trains_the_cells(smoke, tmp_path, trained):
    arguments = ["--preset", "smoke", "--out", str(tmp_path), "--seeds", "2", "--no-ensembles"]
    with ThreadPoolExecutor(2) as executor:
        assert batch_size.main(arguments, executor=executor) == 0
    assert set(cells.find(tmp_path, runs("--seeds", "2"))) == set(runs("--seeds", "2"))
    assert len(trained) == 6
    # What another machine is sent, and what it sends back.
    found = cells.find(smoke, runs())
    for thing in (sweep.run_job, runs()[0], next(iter(found.values()))):
        assert pickle.loads(pickle.dumps(thing)) is not None


def test_a_job_that_fails_in_an_executor_keeps_what_is_finished(tmp_path, monkeypatch):
    def train(config, *rest, **kept):
        if config.penalty:
            raise RuntimeError("out of memory")
        return fake_train(config, *rest, **kept)

    monkeypatch.setattr(sweep, "train", train)
    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="out of memory"):
        batch_size.main(["--preset", "smoke", "--out", str(tmp_path)], executor=executor)
    assert list(cells.find(tmp_path, runs())) == runs()[:2]


def test_seeds_are_one_job_on_an_accelerator_and_a_control_waits_for_its_run():
    base = Config("digits", 64, 32, 32, 1, network="tiny", penalty="l2", strength=0.1)
    configs = [dataclasses.replace(base, seed=seed) for seed in (0, 1)]
    other = dataclasses.replace(base, norm_matched=True)
    assert sweep.jobs([*configs, other], ensembles=True) == [tuple(configs), (other,)]
    assert sweep.jobs(configs) == [(configs[0],), (configs[1],)]


def test_plot_only_draws_the_finished_cells_and_trains_nothing(
    smoke, tmp_path, monkeypatch, capsys
):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    next(folder.glob("*log_stable_rank*")).unlink()
    (folder / "ranks.png").unlink()
    monkeypatch.setattr(sweep, "train", None)
    assert batch_size.main(["--preset", "smoke", "--out", str(folder), "--plot-only"]) == 0
    assert (folder / "ranks.png").exists()
    assert "1 of 3 cells are missing" in capsys.readouterr().err
    empty = tmp_path / "empty"
    assert batch_size.main(["--preset", "smoke", "--out", str(empty), "--plot-only"]) == 1
    assert capsys.readouterr().err.startswith("error: the number of finished cells in")


def test_equal_updates_keep_the_number_of_steps_and_the_rate_at_each():
    config = Config("cifar10", 50_000, 10_000, 50, 40, decay=0.95)
    for size in (500, 8):
        other = equal_updates(config, size)
        steps, expected = other.num_steps * other.epochs, config.num_steps * config.epochs
        assert steps == pytest.approx(expected, rel=0.1)
        assert other.decay**other.epochs == pytest.approx(config.decay**config.epochs)
    assert equal_updates(config, 50) == config
