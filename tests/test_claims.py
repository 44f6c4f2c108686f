"""The public claims: every program can be traced, cells resume, and the statistics decide."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spectral_reg as sr
from examples.claims import (
    cells,
    compression,
    images,
    optimizers,
    outcomes,
    raised,
    robustness,
    runner,
    statistics,
    table,
    warnings,
)
from examples.claims.__main__ import PRESETS, main
from examples.claims.engine import Budget, Program, run_trials
from examples.claims.registry import CLAIMS

pytestmark = pytest.mark.usefixtures("promoted_types")

# Those that a claim is about: the others are parts of them.
PROGRAMS = {
    (name, id(arm.program)): (name, arm_name)
    for name, claim in CLAIMS.items()
    for arm_name, arm in claim.arms.items()
    if arm.controls
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arm"), PROGRAMS.values())
def test_every_spectral_program_can_be_traced(name, arm, tasks):
    claim = CLAIMS[name]
    preset = claim.presets["smoke"]
    own = claim.arms[arm]
    (setting, *_) = own.grid
    task = tasks(name)
    settings = {key: jnp.array([value]) for key, value in setting.items()}
    measured = jax.eval_shape(
        lambda settings, seeds: run_trials(task, own.program, preset.budget, settings, seeds),
        settings,
        jnp.zeros(1, jnp.int32),
    )
    assert measured["loss"].shape == (1, preset.budget.num_chunks)


@pytest.fixture(scope="module")
def tasks():
    made = {}

    def task_of(name):
        if name not in made:
            claim = CLAIMS[name]
            made[name] = claim.make_task(claim.presets["smoke"].task, None)
        return made[name]

    return task_of


@pytest.fixture
def two_arms(monkeypatch):
    """The claim on noisy labels, with its first two arms alone."""
    claim = CLAIMS["label-noise"]
    arms = {name: claim.arms[name] for name in ("adam", "l2")}
    monkeypatch.setitem(CLAIMS, "label-noise", claim._replace(arms=arms))
    return arms


def fake_trials(task, program, budget, settings, seeds):
    """Numbers that follow from the settings and the seeds."""
    value = np.asarray(settings["rate"], np.float64) + np.asarray(seeds)
    return dict.fromkeys(("loss", "validation", "test", "train"), value)


def test_cells_resume_and_tell_what_is_missing(two_arms, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run_trials", fake_trials)
    told = []
    nothing = runner.find("label-noise", "smoke", tmp_path)
    assert nothing.missing == ("adam tune", "l2 tune")
    finished = runner.complete("label-noise", "smoke", tmp_path, told=told.append)
    assert len(told) == 4
    assert not finished.missing
    again = runner.complete("label-noise", "smoke", tmp_path, told=told.append)
    assert len(told) == 4
    assert again.chosen == finished.chosen
    for arm, cell in again.judged.items():
        np.testing.assert_array_equal(cell.measured["test"], finished.judged[arm].measured["test"])
    one = next(tmp_path.glob("*l2-judge*"))
    one.write_text(one.read_text()[:-10])
    assert runner.find("label-noise", "smoke", tmp_path).missing == ("l2 judge",)


@pytest.mark.parametrize("name", ["plasticity", "robustness"])
def test_a_run_at_the_norms_of_another_is_tried_at_rates_of_its_own(name, tmp_path, monkeypatch):
    claim = CLAIMS[name]
    claimed = next(arm for arm, each in claim.arms.items() if each.controls)
    asked = []

    def run(task, program, budget, settings, seeds):
        asked.append((program, settings, seeds))
        own = np.asarray(settings.get("own_rate", settings["rate"]), np.float64)
        value = -np.abs(np.log(own / 2e-3)) + 0 * np.asarray(seeds)
        names = ("validation", "test", "validation attacked", "test attacked")
        return {**dict.fromkeys(names, value), "learned": np.stack([value] * 20, axis=1)}

    monkeypatch.setattr(runner, "run_trials", run)
    arms = {arm: each for arm, each in claim.arms.items() if arm.endswith(claimed)}
    monkeypatch.setitem(
        CLAIMS, name, claim._replace(arms=arms, make_task=lambda options, folder: None, equal=None)
    )
    finished = runner.complete(name, "small", tmp_path, told=lambda line: None)
    preset = claim.presets["small"]
    (setting,) = finished.chosen[claimed]
    (held,) = finished.chosen[f"norms of {claimed}"]
    rates = [own["own_rate"] / setting["rate"] for own in finished.grids[f"norms of {claimed}"]]
    assert rates == pytest.approx(claim.arms[f"norms of {claimed}"].own_rates[: len(rates)])
    assert len(rates) == preset.num_settings
    # The other run keeps its rate.
    assert {each: held[each] for each in setting} == setting
    nearest = min(rates, key=lambda rate: abs(np.log(rate * setting["rate"] / 2e-3)))
    assert held["own_rate"] == pytest.approx(nearest * setting["rate"])
    tuned_on = {int(seed) for _, _, seeds in asked[:1] for seed in seeds}
    assert tuned_on == {*range(1000, 1000 + preset.num_tuning)}
    assert tuple(asked[-1][2][: preset.num_seeds]) == preset.fresh_seeds


@pytest.mark.slow
def test_a_rate_of_its_own_is_not_that_of_the_run_that_goes_along(tasks):
    shown = tasks("label-noise")._replace(judged=lambda data, params: sr.layer_norms(params))
    program = Program(optimizers.adamw(), norms_of=optimizers.adamw(before=optimizers.l2))
    setting = {"rate": 1e-2, "decay": 0.0, "strength": 1.0}

    def measured(**own):
        settings = {name: jnp.array([value]) for name, value in {**setting, **own}.items()}
        return run_trials(shown, program, Budget(1, 3), settings, jnp.zeros(1, jnp.int32))

    usual, same, slower = measured(), measured(own_rate=1e-2), measured(own_rate=1e-3)
    for name in ("fc1/kernel", "fc2/kernel", "loss"):
        np.testing.assert_allclose(same[name], usual[name], rtol=1e-6)
    np.testing.assert_allclose(slower["fc1/kernel"], usual["fc1/kernel"], rtol=1e-5)
    assert abs(slower["loss"] - usual["loss"]) > 1e-3


@pytest.mark.slow
def test_a_claim_runs_and_gives_the_same_again(two_arms, tmp_path):
    first, second = (
        runner.complete("label-noise", "smoke", tmp_path / name, told=lambda line: None)
        for name in ("first", "second")
    )
    for arm in two_arms:
        for name, values in first.judged[arm].measured.items():
            np.testing.assert_array_equal(values, second.judged[arm].measured[name])
        assert np.ptp(first.judged[arm].measured["loss"]) > 0


@pytest.mark.slow
def test_trials_in_turn_are_those_of_a_map(tasks):
    claim = CLAIMS["label-noise"]
    task, program = tasks("label-noise"), claim.arms["l2"].program
    settings = {"rate": jnp.array([1e-3, 2e-3]), "strength": jnp.array([0.1, 0.2])}
    settings["decay"] = jnp.zeros(2)
    arguments = (program, claim.presets["smoke"].budget, settings, jnp.arange(2))
    together = run_trials(task, *arguments)
    for name, values in run_trials(task._replace(in_turn=True), *arguments).items():
        np.testing.assert_allclose(values, together[name], rtol=1e-4)


def test_a_program_that_fails_stops_no_other(two_arms, tmp_path, monkeypatch):
    def run(task, program, *rest):
        if program is two_arms["adam"].program:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return fake_trials(task, program, *rest)

    monkeypatch.setattr(runner, "run_trials", run)
    told = []
    finished = runner.complete("label-noise", "smoke", tmp_path, told=told.append)
    assert finished.missing == ("adam tune",)
    assert list(finished.judged) == ["l2"]
    assert "RESOURCE_EXHAUSTED" in told[0]


def test_a_preset_scales_the_rates_of_all_grids_alone():
    arm = CLAIMS["muon"].arms["muon"]
    preset = CLAIMS["muon"].presets["small"]
    scaled = runner.grid_of(arm, preset)
    assert len(scaled) == preset.num_settings
    for setting, own in zip(scaled, arm.grid, strict=False):
        assert setting == {**own, "rate": preset.rate_scale * own["rate"]}
    assert runner.grid_of(arm, CLAIMS["muon"].presets["full"]) == arm.grid


def test_settings_are_chosen_among_those_of_equal_quality():
    claim = CLAIMS["compression"]
    grid = tuple({"rate": rate} for rate in (1.0, 2.0, 3.0))

    def tuned(full, cut):
        measured = {"validation": np.array(full), "validation sixteenth": np.array(cut)}
        return cells.Cell(measured, 0.0, "")

    some, others = tuned([0.9, 0.96, 0.95], [0.9, 0.2, 0.3]), tuned([0.953, 0.5, 0.5], [0, 0, 0.9])
    both = {"some": some, "others": others}
    assert runner.choose(claim, grid, some, {"some": some}) == ({"rate": 2.0},)
    assert runner.choose(claim, grid, some, both) == ({"rate": 2.0},)
    # None is good enough: its best.
    assert runner.choose(claim, grid, others, both) == ({"rate": 1.0},)


def test_blocks_of_settings_are_chosen_together():
    claim = CLAIMS["failures"]
    grid = tuple({"strength": block, "rate": rate} for block in (1, 2) for rate in (1, 2, 3))
    validation = np.array([1.0, np.nan, 5.0, 2.0, 2.0, 5.0])
    cell = cells.Cell({"validation": validation}, 0.0, "")
    assert runner.choose(claim, grid, cell, {"floor": cell}) == grid[3:]


def test_the_verdict_needs_every_control():
    claim = CLAIMS["power-law"]
    # Of mean zero, and orthogonal.
    noise = 0.01 * np.array([[1, -1] * 4, [1, 1, -1, -1] * 2, [1] * 4 + [-1] * 4])

    def verdict_of(arm, baseline, matched, controls=("adamw", "norms of 3")):
        values = {"tail 3": arm + noise[0], "adamw": baseline + noise[1]}
        values["norms of 3"] = matched + noise[2]
        comparisons = statistics.compare(claim, values)
        assert [one.control for one in comparisons] == ["adamw", "norms of 3"]
        return statistics.verdict(comparisons, controls=controls)

    # Of a loss, less is better.
    assert verdict_of(1.0, 1.1, 1.1) == statistics.HOLDS
    assert verdict_of(1.0, 1.1, 1.1, (*claim.arms["tail 3"].controls, "l2")) == statistics.OPEN
    assert verdict_of(1.0, 1.1, 1.0) == statistics.SO_DOES_THE_CONTROL
    assert verdict_of(1.0, 1.0, 1.1) == statistics.NOT_SEEN
    assert verdict_of(1.1, 1.0, 1.2) == statistics.REFUTED
    # Whatever it is better than: the first is another.
    assert verdict_of(1.0, 1.1, 1.1, ("l2", "adamw", "norms of 3")) == statistics.UNDECIDED


def test_interval_and_correction():
    values = np.random.default_rng(0).normal(1.0, 1.0, size=400)
    low, high = statistics.interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.01)
    assert low < values.mean() < high
    draws = np.random.default_rng(1).normal(size=(1000, 5))
    covered = [low < 0 < high for low, high in map(statistics.interval, draws)]
    assert 0.93 < np.mean(covered) < 0.97
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    with pytest.raises(ValueError, match=r"there are 1 seeds; expected at least 2"):
        statistics.interval(values[:1])


@pytest.mark.slow
def test_a_run_takes_the_norms_of_the_one_that_goes_along(tasks):
    shown = tasks("label-noise")._replace(judged=lambda data, params: sr.layer_norms(params))
    decayed, free = optimizers.adamw(before=optimizers.l2), optimizers.adamw()
    setting = {"rate": 1e-2, "decay": 0.0, "strength": 1.0}
    settings = {name: jnp.array([value]) for name, value in setting.items()}
    norms, held, own = (
        run_trials(shown, program, Budget(1, 3), settings, jnp.zeros(1, jnp.int32))
        for program in (Program(decayed), Program(free, norms_of=decayed), Program(free))
    )
    for name in ("fc1/kernel", "fc2/kernel"):
        np.testing.assert_allclose(held[name], norms[name], rtol=1e-5)
        assert abs(own[name] / norms[name] - 1) > 0.01


def test_an_unknown_claim_and_missing_data_are_one_line_each(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--claim", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
    cells_at = ["--cells", str(tmp_path)]
    assert main(["run", "--claim", "label-noise", "--preset", "full", *cells_at]) == 1
    assert "expected the folder of mnist" in capsys.readouterr().err
    page = tmp_path / "page.md"
    page.write_text("no marks")
    assert main(["table", "--page", str(page), "--results", str(tmp_path), *cells_at]) == 1
    assert "the page lacks" in capsys.readouterr().err


def test_a_warning_is_what_no_living_run_has_shown():
    known = np.array([[1.0, 1, 1, 1, 1], [2, 2, 2, 2, 2], [9, 9, 9, 9, 9]])
    living, failing = [2.0, 2, 3, 2, 2], [1.0, 3, 3, np.nan, 3]
    signal = np.array([living, failing, [2.0] * 5])
    found = warnings.warnings_of(
        signal, np.array([True, False, False]), known, np.array([True, True, False])
    )
    np.testing.assert_array_equal(found.first, [3, 5])
    assert (found.missed, found.false_alarms) == (0.5, 0.0)


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (2, 8, 8)])
def test_truncation_is_that_of_the_svd(shape):
    W = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    U, sigma, V = np.linalg.svd(W, full_matrices=False)
    expected = (U[..., :2] * sigma[..., None, :2]) @ V[..., :2, :]
    found = jax.jit(compression.truncated, static_argnums=1)(W, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_attack_stays_within_its_radius_and_raises_the_loss():
    key = jax.random.key(0)
    params = images.dense_layers(key, (16, 8, 4))
    pixels = jax.random.uniform(key, (5, 16))
    labels = jnp.arange(5) % 4
    found = robustness.attacked(params, pixels, labels)
    assert jnp.max(jnp.linalg.norm(found - pixels, axis=-1)) < robustness.RADIUS + 1e-4
    assert 0 <= jnp.min(found) <= jnp.max(found) <= 1
    before, after = (images.cross_entropy(params, (x, labels)) for x in (pixels, found))
    assert after > before + 0.5


def test_an_attack_finds_as_much_in_a_network_that_is_very_sure():
    key = jax.random.key(1)
    params = images.dense_layers(key, (16, 8, 10))
    sure = {**params, "fc2": {"kernel": 1e4 * params["fc2"]["kernel"], "bias": jnp.zeros(10)}}
    pixels = jax.random.uniform(key, (50, 16))
    labels = jnp.argmax(images.logits_of(params, pixels), -1)
    found = robustness.attacked(params, pixels, labels)
    np.testing.assert_allclose(robustness.attacked(sure, pixels, labels), found, atol=1e-4)
    misled = jnp.argmax(images.logits_of(sure, found), -1) != labels
    assert jnp.mean(misled.astype(jnp.float32)) > 0.5
    # Which the gradient of the cross-entropy, 0, would not.
    assert images.cross_entropy(sure, (pixels, labels)) < 1e-6


def test_what_is_proved_of_a_linear_network_is_its_distance_from_the_boundary():
    key = jax.random.key(2)
    params = images.dense_layers(key, (16, 16, 10))
    # A ReLU leaves positive numbers as they are.
    params["fc1"]["kernel"] = 2 * jnp.eye(16)
    pixels = jax.random.uniform(key, (200, 16), minval=1, maxval=3)
    logits = np.asarray(images.logits_of(params, pixels))
    labels = logits.argmax(-1)
    W = np.asarray(params["fc2"]["kernel"])
    distances = [
        min(
            (row[label] - row[other]) / np.linalg.norm(2 * W[:, label] - 2 * W[:, other])
            for other in range(10)
            if other != label
        )
        for row, label in zip(logits, labels, strict=True)
    ]
    expected = np.array(distances) > robustness.PROVED_RADIUS
    assert 20 < expected.sum() < 180
    np.testing.assert_array_equal(robustness.proved(params, pixels, labels), expected)
    wrong = (labels + 1) % 10
    assert not robustness.proved(params, pixels, wrong).any()


@pytest.mark.parametrize("name", CLAIMS)
def test_the_table_of_any_claim(name, tmp_path, monkeypatch):
    claim = CLAIMS[name]
    preset = claim.presets["full"]
    draw = np.random.default_rng(0)

    def run(task, program, budget, settings, seeds):
        def numbers(*shape):
            return draw.uniform(0.5, 3.0, size=(len(seeds), *shape))

        norms = ("log_stable_rank", "spectral_norm")
        watched = ("loss", "learned", "hidden", "shown", "alpha", *norms)
        judged = ("train", "validation", "test", "stable rank", "top")
        ranks = ("half", "quarter", "sixteenth", "rank 32", "rank 16", "rank 8")
        kinds = (*ranks, "attacked", "attacked less", "proved")
        return {
            **{each: numbers(budget.num_chunks) for each in watched},
            **{each: numbers() for each in judged},
            **{f"{each} {kind}": numbers() for each in judged for kind in kinds},
        }

    monkeypatch.setattr(runner, "run_trials", run)
    monkeypatch.setitem(CLAIMS, name, claim._replace(make_task=lambda options, folder: None))
    finished = runner.complete(name, "full", tmp_path, told=lambda line: None)
    assert not finished.missing
    assert [*finished.judged] == [*claim.arms]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.START}\nwhat was there\n{table.END}\nafter\n")
    arguments = ["--claim", name, "--cells", str(tmp_path)]
    paths = ["--page", str(page), "--results", str(tmp_path / "results")]
    assert main(["table", *arguments, *paths]) == 0
    text = page.read_text()
    assert (text[:6], text[-6:]) == ("before", "after\n")
    assert "what was there" not in text
    for arm, each in claim.arms.items():
        assert (f"| {name} | full | {arm} | " in text) == bool(each.controls)
        assert f"\n| {arm} | {each.text} |" in text
    rows = (tmp_path / "results" / f"{name}-full.csv").read_text().splitlines()
    assert len(rows) == 1 + len(claim.arms) * claim.several * preset.num_seeds
    assert (tmp_path / "results" / f"{name}-full.png").stat().st_size > 5000


def test_the_page_tells_every_cell_that_is_kept(monkeypatch):
    root = Path(__file__).parents[1]
    kept, results = root / "examples/results/claims/cells", Path("examples/results/claims")
    asked, read = set(), cells.read

    def asking(folder, job):
        asked.add(job.path(folder).name)
        return read(folder, job)

    monkeypatch.setattr(cells, "read", asking)
    found = [one for name in CLAIMS for one in outcomes.told(name, kept)]
    assert {path.name for path in kept.iterdir()} <= asked
    page = (root / "docs/claims.md").read_text()
    assert table.replaced(page, table.lines_of(CLAIMS, found, results)) == page
    drawn = {root / results / f"{one.label}.png" for one in found if one.comparisons}
    assert all(path.exists() for path in drawn)


def test_all_budgets_can_be_asked_for():
    assert {preset for claim in CLAIMS.values() for preset in claim.presets} == set(PRESETS)


def test_a_budget_that_a_claim_has_not_is_named(tmp_path, capsys, monkeypatch):
    claim = CLAIMS["muon"]
    only_full = claim._replace(presets={"full": claim.presets["full"]})
    monkeypatch.setitem(CLAIMS, "muon", only_full)
    arguments = ["--claim", "muon", "--preset", "small", "--cells", str(tmp_path)]
    assert main(["run", *arguments]) == 1
    expected = "error: preset is 'small'; expected one of full for muon\n"
    assert capsys.readouterr().err == expected


def test_pushes_go_to_the_next_block():
    keys = jax.random.split(jax.random.key(0), 2)
    kernel = jnp.stack([jax.random.normal(key, (8, 6)) for key in keys])
    params = {"blocks": {"up": {"kernel": kernel}}, "head": {"kernel": jnp.ones((6, 8))}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    settings = {"strength": jnp.float32(-0.03)}

    def pushes(make):
        transformation = make(settings)
        return transformation.update(zeros, transformation.init(params), params)[0]

    own, swapped = pushes(raised.PUSH), pushes(raised._swapped)
    block = own["blocks"]["up"]["kernel"]
    assert jnp.abs(block).max() > 0
    np.testing.assert_allclose(swapped["blocks"]["up"]["kernel"], block[::-1], rtol=1e-6)
    assert not swapped["head"]["kernel"].any()


def test_a_raised_stable_rank_judges_blocks_only():
    eye = jnp.eye(6)
    params = {
        "blocks": {"up": {"kernel": jnp.stack([eye, 2 * eye])}},
        "head": {"kernel": jnp.ones((6, 8))},
    }
    measured = raised._judged(None, params)
    assert measured["stable rank"] == pytest.approx(6.0, rel=1e-5)
    assert measured["top"] == pytest.approx(1.5, rel=1e-5)
