"""The experiments: which runs they have, what they say of them, and that each runs."""

import dataclasses
import re

import numpy as np
import pytest
from fake_training import fake_train, finished

from examples import (
    batch_size,
    explicit_penalty,
    learning_rate,
    lenet5,
    paper_table,
    phases_by_penalty,
    training_dynamics,
)
from examples.presenting import penalty_report, rows
from examples.presenting.gap import closed
from examples.sweeping import cells, command, stages, sweep
from examples.sweeping.presets import PRESETS, change
from examples.training import data
from examples.training.config import Config

PNG = b"\x89PNG"


def smoke(experiment, folder, *arguments):
    assert experiment.main(["--preset", "smoke", "--out", str(folder), *arguments]) == 0
    return (folder / "results.md").read_text()


def test_learning_rate_runs_and_its_arms_share_what_they_have_in_common(tmp_path):
    record = smoke(learning_rate, tmp_path)
    assert record.count("equal updates") == 2
    # b = 16 at lr .01 stands in all three arms, and is one cell.
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert (tmp_path / "phases.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_training_dynamics_runs(tmp_path):
    record = smoke(training_dynamics, tmp_path)
    assert "random labels" in record
    for name in ("ranks", "localization", "spectra"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


def test_lenet5_runs_and_starts_at_the_edge_that_the_papers_have(tmp_path):
    record = smoke(lenet5, tmp_path)
    assert float(re.search(r"edge λ₊ +(\S+)", record)[1]) == pytest.approx(3.5, abs=0.05)
    assert (tmp_path / "spectrum.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_explicit_penalty_runs_through_its_stages(tmp_path):
    record = smoke(explicit_penalty, tmp_path)
    assert "They do not both reach 99%" in record
    assert "The runs compared have equal updates." in record
    assert record.count("control") >= 3
    for name in ("search", "gap"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


@pytest.fixture
def quick(tmp_path, monkeypatch, capsys):
    """Runs an experiment of MiniAlexNet with a training that does nothing."""
    monkeypatch.setattr(sweep, "train", fake_train)
    monkeypatch.setattr(sweep, "_load", lambda *given, **options: None)

    def run(experiment, *arguments, folder="out"):
        given = ["--out", str(tmp_path / folder), "--cells", str(tmp_path / "cells"), *arguments]
        assert experiment.main(given) == 0
        return capsys.readouterr().out

    return run


def test_the_best_penalty_is_chosen_on_images_of_the_training_set(quick, tmp_path):
    printed = " ".join(quick(explicit_penalty, "--preset", "quick", "--seeds", "3").split())
    found = list(cells.every(tmp_path / "cells", Config))
    search = [cell.config for cell in found if cell.config.validation_size]
    assert {(c.train_size, c.validation_size, c.seed) for c in search} == {(4500, 500, 0)}
    final = [cell.config for cell in found if not cell.config.validation_size]
    assert {(c.train_size, c.seed) for c in final} == {(5000, seed) for seed in range(3)}
    # Six finalists and three power laws with their controls, of three seeds each; two plain runs,
    # nine penalties at four strengths, and controls.
    assert (len(final), len(search)) == (3 * (6 + 6), 2 + 9 * 4 + 9)
    assert "Both reach 99%. The runs compared have equal epochs." in printed
    # The fake's penalized runs gain .02 of the .468 between b = 500 and b = 32.
    assert "closes 0.04 ± 0.00 of the gap: less than half of it" in printed
    assert "rises by 0.4680 ± 0.0000 over 3 seeds" in printed
    names = {c.penalty for c in search}
    assert names == {"", *PRESETS["quick"].penalties}


def test_validation_images_are_taken_from_beyond_the_training_set_where_there_are_some():
    preset = PRESETS["quick"]
    parser = command.make_parser(explicit_penalty.EXPERIMENT)

    def searched(*arguments):
        given = ["--preset", "quick", "--compare", "epochs", *arguments]
        now = stages.stages(preset, parser.parse_args(given), {})
        return {
            (c.train_size, c.validation_size) for run in now.search.values() for c in run.values()
        }

    assert searched("--validation-size", "2000") == {(5000, 2000)}
    assert searched("--validation-size", "47000") == {(3000, 47_000)}
    with pytest.raises(data.DataError, match="train_size is 0 beside 50000 images"):
        searched("--validation-size", "50000")


def test_the_regime_follows_the_training_accuracy_unless_it_is_told():
    preset = PRESETS["quick"]

    def decided(compare, *accuracies):
        parser = command.make_parser(explicit_penalty.EXPERIMENT)
        options = parser.parse_args(["--preset", "quick", "--compare", compare])
        reference = dataclasses.replace(preset.baseline, batch_size=32)
        large = dataclasses.replace(reference, batch_size=500)
        found = {
            config: finished(config, final_train_accuracy=accuracy)
            for config, accuracy in zip((large, reference), accuracies, strict=False)
        }
        return stages.stages(preset, options, found)

    assert decided("auto").comparison == decided("auto", 1.0).comparison == ""
    assert decided("auto", 0.99, 1.0).comparison == "epochs"
    unequal = decided("auto", 0.98, 1.0)
    assert unequal.comparison == "updates"
    plain, reference = (unequal.finalists[name] for name in ("none", "reference"))
    assert (plain.batch_size, reference.batch_size) == (500, 32)
    assert plain.num_steps * plain.epochs == pytest.approx(reference.num_steps * 4, rel=0.02)
    assert decided("epochs").comparison == "epochs"


def test_the_estimate_counts_the_runs_that_are_not_named_yet():
    preset = PRESETS["quick"]._replace(num_seeds=2)
    parser = command.make_parser(explicit_penalty.EXPERIMENT)
    options = parser.parse_args(["--preset", "quick", "--compare", "epochs"])
    plan = stages.plan(preset, options)

    def estimate(found):
        known = sum(config.num_images for config in dict.fromkeys(plan(found)))
        return known + stages.to_come(preset, options, found)

    found, estimates = {}, [estimate({})]
    for _ in range(3):
        found = {
            config: finished(config, config.seed)
            for config in plan(found)
            if not config.norm_matched or config.original in found
        }
        estimates.append(estimate(found))
    assert len(found) == (6 + 6) * 2 + 2 + 9 * 4 + 9
    # Strengths are rounded, and with them nothing else; the numbers of steps are known at once.
    assert estimates == [estimates[-1]] * 4
    options = parser.parse_args(["--preset", "quick"])
    plan = stages.plan(preset, options)
    assert estimate({}) > estimates[0]


def test_a_share_of_a_gap_is_a_ratio_of_means_with_a_jackknife_error():
    plain, reference = np.array([0.50, 0.52, 0.54]), np.array([0.60, 0.62, 0.64])
    part = closed(plain, plain + np.array([0.04, 0.05, 0.06]), reference)
    assert part.share == pytest.approx(0.5)
    assert part.gap == pytest.approx(0.1)
    assert part.is_gap
    # With a constant gap it is the standard error of the gains, over the gap.
    assert part.error == pytest.approx(0.01 / np.sqrt(3) / 0.1)
    assert not closed(plain, plain, plain + np.array([0.1, -0.1, 0.05])).is_gap
    assert np.isnan(closed(plain[:1], plain[:1], reference[:1]).error)
    with pytest.raises(ValueError, match="accuracies is 3, 2 and 3; expected one"):
        closed(plain, plain[:2], reference)


def test_the_verdict_says_that_there_is_no_gap():
    config = Config("cifar10", 5000, 100, 500, 1)
    groups = {
        name: rows.Group(config, [rows.row(finished(config, final_test_accuracy=0.5))])
        for name in ("none", "reference", "best penalty")
    }
    now = stages.Stages((0.5, 1.0), "updates", {}, {}, {}, {})
    text = penalty_report.verdict(now, groups)
    assert text.endswith("There is no gap to close.")
    assert "They do not both reach 99%." in text


def test_paper_table_puts_ours_beside_theirs_between_the_marks(quick, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{paper_table.BEGIN}\nstale\n{paper_table.END}\nafter\n")
    options = ["--preset", "original", "--seeds", "2", "--write", str(readme)]
    quick(paper_table, *options)
    text = readme.read_text()
    assert text.startswith(f"before\n{paper_table.BEGIN}\n\nMiniAlexNet on cifar10, 50,000 images")
    assert text.endswith(f"{paper_table.END}\nafter\n")
    assert "stale" not in text
    line = next(line for line in text.splitlines() if line.startswith("| 500 | 22"))
    # Noise: the stable rank of the run, that of the pool, the paper's; the phases.
    columns = [column.strip() for column in line.split("|")[1:-1]]
    assert columns[3] == "222.0"
    assert float(columns[2]) <= float(columns[1].split(" ±")[0])
    assert columns[-2:] == ["RANDOM_LIKE", "RANDOM_LIKE"]
    assert "| R4 phase | FC1 HEAVY_TAILED at b = 2 | does not hold | RANDOM_LIKE |" in text
    assert "| R3 |" in text
    assert "| not run |" in text
    readme.write_text("no marks")
    options += ["--out", str(tmp_path / "out"), "--cells", str(tmp_path / "cells")]
    assert paper_table.main(["--plot-only", *options]) == 1
    assert "is without marks; expected the lines" in capsys.readouterr().err
    assert readme.read_text() == "no marks"


def test_every_experiment_shows_its_help(capsys):
    for experiment in (batch_size, learning_rate, explicit_penalty, training_dynamics, lenet5):
        with pytest.raises(SystemExit) as stop:
            experiment.main(["--help"])
        assert stop.value.code == 0
        assert "--plot-only" in capsys.readouterr().out


def test_phases_by_penalty_says_what_was_asked_for_and_what_came(quick, tmp_path):
    printed = quick(phases_by_penalty, "--preset", "small", "--seeds", "1", "--data", "digits")
    lines = printed.splitlines()
    asked = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0].isupper()]
    assert [word.rstrip(":") for word in asked[:2]] == ["RANDOM_LIKE", "BLEEDING_OUT"]
    # The fake leaves noise, whatever is asked for.
    assert sum(line.split() == ["RANDOM_LIKE"] for line in lines) == 5
    assert "no tail" in printed
    assert (tmp_path / "out" / "spectra.png").exists()


def test_a_preset_knows_the_epochs_of_a_batch_size_unless_others_are_told():
    full = PRESETS["full"]
    assert [full.at(size).epochs for size in (500, 16, 2)] == [45, 13, 1]
    assert change(full, epochs=3).at(2).epochs == 3
    assert change(full, train_size=1000).at(2).epochs == 1
