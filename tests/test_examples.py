import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from examples import batch_size, cells, data, report, training

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of one real smoke run."""
    folder = tmp_path_factory.mktemp("smoke")
    assert batch_size.main(["--preset", "smoke", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def configs():
    return batch_size.sweep("smoke", "digits", seed=0)


@functools.cache
def noise(shape, seed=0):
    weights = np.random.default_rng(seed).normal(size=shape) / np.sqrt(max(shape))
    return np.linalg.svd(weights, compute_uv=False) ** 2


def fake_train(config, dataset, on_images):
    """What `train` leaves, without the work."""
    eigenvalues = {
        name: np.stack([noise(shape, config.seed)] * 2) for name, shape in report.SHAPES.items()
    }
    accuracies = {"final_train_accuracy": 0.5, "final_test_accuracy": 0.4}
    return training.Outcome(training.State({}, {}, ()), accuracies, eigenvalues)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def test_smoke_run_leaves_a_cell_a_run_two_figures_and_its_record(smoke, configs):
    found = cells.find(smoke, configs)
    assert list(found) == configs
    for cell in found.values():
        assert len(cell.metrics["train_loss"]) == len(cell.metrics["test_accuracy"]) == 1
        assert cell.metrics["final_test_accuracy"] > 0.2
        assert cell.arrays["fc1"].shape == (2, 384)
        assert cell.arrays["fc2"].shape == (2, 192)
        assert cell.wall_time > 0
        assert cell.origin["versions"]["jax"]
    for name in ("ranks.png", "spectra.png"):
        assert (smoke / name).read_bytes().startswith(b"\x89PNG")
    record = (smoke / "results.md").read_text()
    assert "python -m examples.batch_size --preset smoke --data digits --seed 0" in record
    assert "RANDOM_LIKE" in record


def test_penalty_starts_from_the_same_weights_and_lowers_the_stable_rank(smoke, configs):
    plain, penalized = (report.row(cell) for cell in cells.find(smoke, configs).values())
    for name in training.LAYERS:
        start, other = (row.cell.arrays[name][0] for row in (plain, penalized))
        np.testing.assert_array_equal(start, other)
        assert penalized.layers[name].stable_rank < plain.layers[name].stable_rank - 0.1


def test_same_seed_gives_the_same_numbers(smoke, configs):
    dataset = data.load("digits", train_size=64, test_size=32)
    seen = []
    outcome = training.train(configs[0], dataset, seen.append)
    stored = cells.find(smoke, configs)[configs[0]]
    assert outcome.metrics == stored.metrics
    for name in training.LAYERS:
        np.testing.assert_array_equal(outcome.eigenvalues[name], stored.arrays[name])
    assert sum(seen) == 64


def test_initial_weights_depend_on_the_seed_alone(configs):
    def kernel(**changes):
        _, params, _ = training.initial(dataclasses.replace(configs[0], **changes))
        return np.asarray(params["fc1"]["kernel"])

    np.testing.assert_array_equal(kernel(), kernel(batch_size=8, penalty="x", epochs=9))
    assert not np.array_equal(kernel(), kernel(seed=1))


def test_finished_cells_are_reused_and_only_missing_ones_trained(
    smoke, configs, tmp_path, monkeypatch
):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    before = contents(folder)
    gone = next(name for name in before if "log_stable_rank" in name)
    (folder / gone).unlink()
    trained = []
    monkeypatch.setattr(
        batch_size, "train", lambda *given: trained.append(given[0]) or fake_train(*given)
    )
    for _ in range(2):
        assert batch_size.main(["--preset", "smoke", "--out", str(folder)]) == 0
    assert trained == [configs[1]]
    after = contents(folder)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name != gone)


def test_a_cell_of_another_configuration_is_neither_reused_nor_lost(smoke, configs):
    changed = [dataclasses.replace(config, learning_rate=0.02) for config in configs]
    assert cells.find(smoke, changed) == {}
    assert len(cells.find(smoke, configs)) == 2


def test_a_cell_written_before_a_field_was_added_has_its_default(smoke, configs):
    @dataclasses.dataclass(frozen=True)
    class Later(training.Config):
        new_field: int = 3

    later = Later(**dataclasses.asdict(configs[0]))
    assert list(cells.find(smoke, [later, dataclasses.replace(later, new_field=4)])) == [later]


def test_damaged_and_half_written_files_are_no_cells(smoke, configs, tmp_path):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    whole = sorted(folder.glob("*.npz"))[0]
    whole.write_bytes(whole.read_bytes()[:5000])
    (folder / "empty.npz").touch()
    np.savez(folder / "foreign.npz", a=np.ones(2))
    (folder / ".b32.npz.123").write_bytes(b"half")
    assert len(cells.find(folder, configs)) == 1


def test_a_failed_write_leaves_nothing(configs, tmp_path):
    cell = cells.Cell(configs[0], {"bad": object()}, {}, 1.0, {})
    with pytest.raises(TypeError):
        cells.write(tmp_path, cell, label="b32")
    cell = cells.Cell(configs[0], {}, {"bad": np.array([lambda: 0])}, 1.0, {})
    with pytest.raises((AttributeError, TypeError)):
        cells.write(tmp_path, cell, label="b32")
    assert list(tmp_path.iterdir()) == []


def test_interrupt_keeps_the_finished_cell_and_says_so(tmp_path, monkeypatch, capsys, configs):
    def interrupted(config, dataset, on_images):
        if config.penalty:
            raise KeyboardInterrupt
        return fake_train(config, dataset, on_images)

    monkeypatch.setattr(batch_size, "train", interrupted)
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path)]) == 130
    assert "1 of 2 cells are finished" in capsys.readouterr().err
    assert list(cells.find(tmp_path, configs)) == configs[:1]
    assert len(list(tmp_path.iterdir())) == 1


def test_kill_loses_at_most_the_cell_in_hand(tmp_path, configs):
    program = f"""
import time
from examples import batch_size
from tests_of_examples import fake_train
def train(config, *rest):
    if config.penalty:
        print("second cell", flush=True)
        time.sleep(100)
    return fake_train(config, *rest)
batch_size.train = train
batch_size.main(["--preset", "smoke", "--out", {str(tmp_path / "out")!r}])
"""
    (tmp_path / "tests_of_examples.py").write_text(Path(__file__).read_text())
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "second cell\n"
        process.send_signal(signal.SIGKILL)
    assert list(cells.find(tmp_path / "out", configs)) == configs[:1]


def test_plot_only_draws_the_finished_cells_and_trains_nothing(
    smoke, tmp_path, monkeypatch, capsys
):
    folder = shutil.copytree(smoke, tmp_path / "copy")
    next(folder.glob("*log_stable_rank*")).unlink()
    (folder / "ranks.png").unlink()
    monkeypatch.setattr(batch_size, "train", None)
    assert batch_size.main(["--preset", "smoke", "--out", str(folder), "--plot-only"]) == 0
    assert (folder / "ranks.png").exists()
    assert "1 of 2 cells are missing" in capsys.readouterr().err
    empty = tmp_path / "empty"
    assert batch_size.main(["--preset", "smoke", "--out", str(empty), "--plot-only"]) == 1
    assert capsys.readouterr().err.startswith("error: no finished cell of this sweep in")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "choose from"),
        (["--data", "imagenet"], "choose from"),
        (["--seed", "-1"], "expected a whole number from 0 on, got '-1'"),
    ],
)
def test_unknown_names_and_seeds_are_usage_errors_that_say_what_is_expected(
    arguments, message, capsys
):
    with pytest.raises(SystemExit) as stop:
        batch_size.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_output_that_is_no_folder_is_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "train", fake_train)
    (tmp_path / "file").touch()
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give it with --data-dir"), (["--data-dir", "nowhere"], "no file nowhere")],
)
def test_missing_data_is_one_line_and_exit_code_1(arguments, message, tmp_path, capsys):
    command = ["--data", "cifar10", "--preset", "smoke", "--out", str(tmp_path), *arguments]
    assert batch_size.main(command) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]


def test_a_diverged_cell_is_shown_as_such(tmp_path, monkeypatch, capsys):
    def diverged(config, dataset, on_images):
        outcome = fake_train(config, dataset, on_images)
        if config.penalty:
            for eigenvalues in outcome.eigenvalues.values():
                eigenvalues[-1] = np.nan
        return outcome

    monkeypatch.setattr(batch_size, "train", diverged)
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("DIVERGED") == 2


def test_the_table_is_80_columns_wide_and_noise_has_no_tail(configs):
    heavy = (1 - (np.arange(384) + 0.5) / 384) ** -0.5
    arrays = {"fc1": heavy[None, ::-1] * 100, "fc2": noise((384, 192))[None]}
    accuracies = {"final_train_accuracy": 1.0, "final_test_accuracy": 1.0}
    row = report.row(cells.Cell(configs[1], accuracies, arrays, 1.0, cells.origin()))
    assert row.layers["fc1"].has_tail
    assert not row.layers["fc2"].has_tail
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table([row]))
    assert max(len(line.rstrip()) for line in capture.get().splitlines()) <= 80
    assert "3.00±" in capture.get()


def test_losses_on_uniform_logits():
    logits, labels = jnp.zeros((2, 10)), jnp.array([3, 7])
    np.testing.assert_allclose(training.cross_entropy(logits, labels), np.log(10), rtol=1e-6)
    np.testing.assert_allclose(training.mean_squared_error(logits, labels), 0.09, rtol=1e-6)


def test_spectra_are_squared_singular_values_and_nan_where_weights_are():
    weights = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    weights[:, 0] *= 1e-3
    weights[:, 1] = 0
    params = {"fc1": {"kernel": weights}, "fc2": {"kernel": weights * np.nan}}
    result = training.spectra(params)
    expected = np.linalg.svd(weights.astype(np.float64), compute_uv=False) ** 2
    np.testing.assert_allclose(result["fc1"], expected, rtol=1e-8, atol=1e-12)
    assert np.isnan(result["fc2"]).all()


def test_fresh_statistics_are_those_of_the_images(configs):
    graph, params, stats = training.initial(configs[0])
    images = data.load("digits", train_size=8, test_size=1).train_images
    fresh = training.fresh_statistics(graph, params, stats, images)
    again = training.fresh_statistics(graph, params, fresh, images)
    for layer in ("norm1", "norm2"):
        np.testing.assert_allclose(fresh[layer]["mean"], again[layer]["mean"])
        assert float(abs(fresh[layer]["mean"]).max()) > 0.1


def test_a_batch_larger_than_the_training_set_is_refused(configs):
    dataset = data.load("digits", train_size=16, test_size=1)
    with pytest.raises(ValueError, match="batch size 32 for 16 training images"):
        training.train(configs[0], dataset)
