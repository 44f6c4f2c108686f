"""The command line that all experiments share: what it takes, shows and refuses."""

import numpy as np
import pytest
from fake_training import fake_train, noise
from rich.console import Console

from examples import batch_size
from examples.presenting import report, rows
from examples.sweeping import cells, sweep
from examples.training.config import Config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "choose from"),
        (["--data", "imagenet"], "choose from"),
        (["--seed", "-1"], "it is '-1'; expected a whole number from 0 on"),
        (["--seeds", "0"], "it is '0'; expected a whole number from 1 on"),
        (["--batch-sizes", "8,b"], "it is 'b'; expected a whole number from 1 on"),
        (["--train-size", "16"], "the largest batch size is 256; expected at most 16"),
    ],
)
def test_wrong_arguments_are_usage_errors_that_say_what_is_expected(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        batch_size.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_record_has_what_decides_the_numbers_and_no_path(tmp_path, trained):
    arguments = ["--out", str(tmp_path), "--preset", "smoke", "--batch-sizes", "8,64", "--epochs"]
    assert batch_size.main([*arguments, "2", "--seeds", "2", "--seed", "5"]) == 0
    assert {config.seed for config in trained} == {5, 6}
    assert {(config.batch_size, config.epochs) for config in trained} == {(64, 2), (8, 2)}
    record = (tmp_path / "results.md").read_text()
    assert "smoke --data digits --seeds 2 --epochs 2 --batch-sizes 64,8 --seed 5`" in record
    assert str(tmp_path) not in record


def test_an_output_that_is_no_folder_is_one_line_and_exit_code_1(tmp_path, trained, capsys):
    (tmp_path / "file").touch()
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give it with --data-dir"), (["--data-dir", "nowhere"], "data_batch_1.bin is missing")],
)
def test_missing_data_is_one_line_and_exit_code_1(arguments, message, tmp_path, capsys):
    command = ["--data", "cifar10", "--preset", "smoke", "--out", str(tmp_path), *arguments]
    assert batch_size.main(command) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]


def test_a_diverged_cell_is_shown_as_such(tmp_path, monkeypatch, capsys):
    def diverged(config, *rest, **kept):
        outcome = fake_train(config, *rest, **kept)
        if config.penalty:
            for name in ("fc1", "fc2"):
                outcome.arrays[name][-1] = np.nan
                outcome.arrays[f"localization_{name}"][-1] = np.nan
        return outcome

    monkeypatch.setattr(sweep, "train", diverged)
    assert batch_size.main(["--preset", "smoke", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("DIVERGED") == 2


def test_the_table_is_80_columns_wide_and_noise_has_no_tail():
    heavy = (1 - (np.arange(384) + 0.5) / 384) ** -0.5
    arrays = {"fc1": heavy[None, ::-1] * 100, "fc2": noise((384, 192))[None]}
    accuracies = {"final_train_accuracy": 1.0, "final_test_accuracy": 1.0}
    config = Config("digits", 64, 32, 500, 1, penalty="l2", strength=0.1)
    (group,) = rows.groups([cells.Cell(config, accuracies, arrays, 1.0, cells.origin())])
    assert group.rows[0].layers["fc1"].has_tail
    assert not group.rows[0].layers["fc2"].has_tail
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table([group]))
    assert max(len(line.rstrip()) for line in capture.get().splitlines()) <= 80
    assert "3.00±" in capture.get()


def test_means_and_standard_errors_are_over_the_seeds_that_have_a_number():
    def cell(seed, accuracy):
        config = Config("digits", 64, 32, 32, 1, seed=seed, network="tiny")
        outcome = fake_train(config, None)
        metrics = outcome.metrics | {"final_test_accuracy": accuracy}
        return cells.Cell(config, metrics, outcome.arrays, 1.0, {})

    (group,) = rows.groups([cell(0, 0.5), cell(1, 0.7), cell(2, np.nan)])
    assert group.mean(rows.test_accuracy) == pytest.approx(0.6)
    assert group.error(rows.test_accuracy) == pytest.approx(0.1)
    assert np.isnan(rows.Group(group.config, group.rows[:1]).error(rows.test_accuracy))
