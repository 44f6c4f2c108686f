"""A killed run goes on from its last epoch, and ends to the bit where it would have ended."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import batch_size
from examples.sweeping import cells, command, presets, sweep
from examples.training import data, outcome, states, training
from examples.training.config import Config

ROOT = Path(__file__).parents[1]
TINY = Config("digits", 64, 32, batch_size=16, epochs=3, network="tiny", decay=0.9)
NUM_STEPS = TINY.num_steps * TINY.epochs


class Killed(Exception):
    """Stands for a kill where the test needs its process."""


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=64, test_size=32)


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(states, "SECONDS_BETWEEN", 0.0)


def keeper(folder, configs, **options):
    return states.Keeper(folder, configs, {"commit": "a"}, **options)


def dies_after(num_images):
    seen = 0

    def on_images(number):
        nonlocal seen
        seen += number
        if seen > num_images:
            raise Killed

    return on_images


def assert_same(left, right):
    assert left.metrics == right.metrics
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in left.arrays.items():
        np.testing.assert_array_equal(array, right.arrays[name])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"penalty": "dropout", "strength": 0.3, "random_labels": 0.5},
        {"penalty": "log_stable_rank", "strength": 0.3},
        {"optimizer": "adadelta", "learning_rate": 1.0},
        {"penalty": "l2", "strength": 0.1, "norm_matched": True},
    ],
    ids=lambda changes: changes.get("penalty", changes.get("optimizer", "plain")),
)
def test_a_run_goes_on_to_the_same_bits(changes, digits, tmp_path, every_epoch):
    config = dataclasses.replace(TINY, **changes)
    norms = np.linspace(4, 9, NUM_STEPS * 3).reshape(-1, 3).astype(np.float32)
    given = norms if config.norm_matched else None
    whole = training.train(config, digits, norms=given)
    with pytest.raises(Killed):
        # In the middle of the third epoch.
        training.train(config, digits, dies_after(150), given, keeper=keeper(tmp_path, [config]))
    assert states.saved_epochs(tmp_path, [config]) == 2
    seen = []
    resumed = training.train(config, digits, seen.append, given, keeper=keeper(tmp_path, [config]))
    assert sum(seen) == 64
    assert_same(whole, resumed)


@pytest.mark.parametrize("penalty", ["log_stable_rank", "control"])
def test_an_ensemble_goes_on_to_the_same_bits(penalty, digits, tmp_path, every_epoch):
    control = penalty == "control"
    base = dataclasses.replace(TINY, penalty="l2" if control else penalty, norm_matched=control)
    configs = [dataclasses.replace(base, seed=seed, strength=0.2) for seed in (0, 3)]
    norms = None
    if control:
        steps = np.linspace(4, 9, NUM_STEPS * 3, dtype=np.float32).reshape(-1, 3)
        norms = [steps, steps * 1.1]
    whole = training.train_ensemble(configs, digits, norms=norms)
    dies = dies_after(2 * 64)
    with pytest.raises(Killed):
        training.train_ensemble(configs, digits, dies, norms, keeper=keeper(tmp_path, configs))
    assert states.saved_epochs(tmp_path, configs) == 1
    resumed = training.train_ensemble(
        configs, digits, norms=norms, keeper=keeper(tmp_path, configs)
    )
    for left, right in zip(whole, resumed, strict=True):
        assert_same(left, right)


def test_a_longer_run_goes_on_from_the_state_of_a_shorter_one(digits, tmp_path):
    longer = dataclasses.replace(TINY, epochs=5)
    training.train(TINY, digits, keeper=keeper(tmp_path, [TINY], to_the_end=True))
    assert states.saved_epochs(tmp_path, [longer]) == 3
    seen = []
    extended = training.train(longer, digits, seen.append, keeper=keeper(tmp_path, [longer]))
    assert sum(seen) == 2 * 64
    assert_same(training.train(longer, digits), extended)
    # A state beyond the end of a run is none of its own.
    shorter = dataclasses.replace(TINY, epochs=2)
    assert states.saved_epochs(tmp_path, [shorter]) == 0
    seen.clear()
    training.train(shorter, digits, seen.append, keeper=keeper(tmp_path, [shorter]))
    assert sum(seen) == 2 * 64


def test_what_is_no_state_of_the_run_is_left_alone(digits, tmp_path, every_epoch):
    with pytest.raises(Killed):
        training.train(TINY, digits, dies_after(100), keeper=keeper(tmp_path, [TINY]))
    path = states.place(tmp_path, [TINY])
    content = path.read_bytes()
    for other in ({"seed": 1}, {"learning_rate": 0.02}, {"penalty": "l2", "strength": 0.1}):
        assert states.saved_epochs(tmp_path, [dataclasses.replace(TINY, **other)]) == 0
    # A state of a network with other shapes under this name, and one that is cut short.
    states.place(tmp_path, [dataclasses.replace(TINY, seed=1)]).write_bytes(content[:500])
    seen = []
    config = dataclasses.replace(TINY, seed=1)
    assert states.saved_epochs(tmp_path, [config]) == 0
    training.train(config, digits, seen.append, keeper=keeper(tmp_path, [config]))
    dropout = dataclasses.replace(TINY, optimizer="adadelta")
    states.place(tmp_path, [dropout]).write_bytes(content)
    training.train(dropout, digits, seen.append, keeper=keeper(tmp_path, [dropout]))
    assert sum(seen) == 2 * 3 * 64


def test_states_are_ten_minutes_apart_and_at_the_end_of_epochs(digits, tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(states.time, "monotonic", lambda: now)
    record = outcome.Record(TINY, digits)
    optimizer = training.make_optimizer(TINY)
    state = training.State(record.params, record.batch_stats, optimizer.init(record.params))
    long = dataclasses.replace(TINY, epochs=9)
    keeps = keeper(tmp_path, [long])
    saved = []
    for epoch in range(1, 10):
        now += 250
        keeps.after_epoch(epoch, state, [record])
        saved.append(states.saved_epochs(tmp_path, [long]))
    assert saved == [0, 0, 3, 3, 3, 6, 6, 6, 6]


COMMAND = ["--preset", "smoke", "--epochs", "3", "--out"]


@pytest.mark.slow
def test_kill_in_the_middle_of_an_epoch_costs_that_epoch_and_nothing_else(
    tmp_path, every_epoch, capsys
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    program = f"""
import jax, time
jax.config.update("jax_disable_most_optimizations", True)
from examples import batch_size
from examples.training import states, training
states.SECONDS_BETWEEN = 0.0
batches = training._batches
def slow(config, epoch, num_images):
    for index, batch in enumerate(batches(config, epoch, num_images)):
        if (config.batch_size, epoch, index) == (16, 2, 2):
            print("third epoch", flush=True)
            time.sleep(100)
        yield batch
training._batches = slow
batch_size.main({[*COMMAND, str(killed)]!r})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "third epoch\n"
        process.send_signal(signal.SIGKILL)
    parser = command.make_parser(batch_size.EXPERIMENT)
    options = parser.parse_args([*COMMAND, str(killed)])
    preset = presets.change(presets.PRESETS["smoke"], epochs=3)
    configs = batch_size.plan(preset, options)({})
    assert len(cells.find(killed, configs)) == 1
    assert states.saved_epochs(killed, [configs[1]]) == 2
    totals = []
    with pytest.MonkeyPatch.context() as patch:
        bar = sweep.tqdm
        patch.setattr(sweep, "tqdm", lambda **given: totals.append(bar(**given)) or totals[-1])
        assert batch_size.main([*COMMAND, str(killed)]) == 0
    # What is left: an epoch of b = 16, and three with the penalty.
    assert totals[0].total == totals[0].n == (1 + 3) * 64
    assert not list(killed.glob("*.state"))
    assert batch_size.main([*COMMAND, str(whole)]) == 0
    left, right = cells.find(killed, configs), cells.find(whole, configs)
    assert list(left) == list(right) == configs
    for config in configs:
        assert_same(left[config], right[config])


def test_minutes_stop_at_an_epoch_and_the_same_command_goes_on(tmp_path, capsys):
    command_line = ["--preset", "smoke", "--epochs", "2", "--out", str(tmp_path / "out")]
    codes = []
    for _ in range(12):
        codes.append(batch_size.main([*command_line, "--minutes", "0.0001"]))
        if codes[-1] == 0:
            break
        assert "the same command resumes" in capsys.readouterr().err
    # Three runs of two epochs; nothing stops after the last of a run but before the next run.
    assert set(codes[:-1]) == {command.UNFINISHED}
    assert codes[-1] == 0
    assert not list((tmp_path / "out").glob("*.state"))
    for wrong in ("0", "nan", "soon"):
        with pytest.raises(SystemExit):
            batch_size.main([*command_line, "--minutes", wrong])
        assert re.search(r"it is '\w+'; expected a number of minutes", capsys.readouterr().err)


def test_a_cell_tells_all_commits_that_it_was_trained_by():
    origins = [{"commit": "a", "device": "cpu"}, {"commit": "b", "device": "cpu"}]
    assert sweep._together(origins) == {"commit": "a, b", "device": "cpu"}
    assert sweep._together(origins[1:]) == origins[1]
