"""Training itself: what is trained, recorded and measured, alone and as an ensemble."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples.training import data, measures, penalties, steps, training
from examples.training.config import Config
from examples.training.networks import LAYERS
from examples.training.outcome import labels_of, measured_epochs

TINY = Config("digits", 64, 32, batch_size=16, epochs=2, network="tiny")
MINI = Config("digits", 4, 4, batch_size=2, epochs=1)
CONTROLLED = dataclasses.replace(TINY, penalty="log_stable_rank", strength=0.3)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=64, test_size=32)


@pytest.fixture(scope="module")
def penalized(digits):
    return training.train(CONTROLLED, digits)


def test_same_seed_gives_the_same_numbers_and_another_one_others(digits):
    first, again = (training.train(TINY, digits) for _ in range(2))
    other = training.train(dataclasses.replace(TINY, seed=1), digits)
    assert first.metrics == again.metrics
    assert first.metrics["train_loss"] != other.metrics["train_loss"]
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_every_image_is_told_and_every_epoch_measured(digits):
    seen = []
    outcome = training.train(TINY, digits, seen.append)
    assert sum(seen) == TINY.num_images == 128
    assert outcome.metrics["epochs"] == [0, 1, 2]
    assert outcome.metrics["train_loss"][1] < outcome.metrics["train_loss"][0]
    for name, shape in LAYERS["tiny"].items():
        assert outcome.arrays[name].shape == (3, min(shape))
        assert outcome.arrays[f"localization_{name}"].shape == (3, len(measures.LOCALIZATION))
    assert "norms" not in outcome.arrays


def test_a_long_run_is_measured_a_hundred_times_its_ends_among_them():
    epochs = measured_epochs(1563, 50_000)
    assert (epochs[:2], epochs[-1], len(epochs)) == ([0, 1], 1563, 101)
    assert measured_epochs(3, 50_000) == [0, 1, 2, 3]


def test_short_epochs_are_measured_seldom_but_eight_at_least():
    assert measured_epochs(6, 1536) == [0, 1, 2, 3, 4, 5, 6]
    epochs = measured_epochs(25, 2000)
    assert (epochs[:2], epochs[-1], len(epochs)) == ([0, 3], 25, 10)


@pytest.mark.parametrize("penalty", ["", "dropout", "log_stable_rank"])
def test_an_ensemble_is_its_runs_one_by_one(penalty, digits):
    base = dataclasses.replace(
        TINY, penalty=penalty, strength=0.3 * bool(penalty), random_labels=0.5, decay=0.9
    )
    configs = [dataclasses.replace(base, seed=seed) for seed in (0, 3)]
    seen = []
    together = training.train_ensemble(configs, digits, seen.append)
    assert sum(seen) == 2 * base.num_images
    for config, member in zip(configs, together, strict=True):
        alone = training.train(config, digits)
        np.testing.assert_allclose(
            member.metrics["train_loss"], alone.metrics["train_loss"], rtol=1e-5
        )
        for name in alone.arrays:
            if not name.startswith("localization"):
                np.testing.assert_allclose(member.arrays[name], alone.arrays[name], rtol=2e-4)


@pytest.mark.slow
def test_an_ensemble_of_convolutional_networks_is_its_runs_one_by_one():
    dataset = data.load("digits", train_size=4, test_size=4)
    config = dataclasses.replace(MINI, network="lenet5", batch_size=4)
    configs = [dataclasses.replace(config, seed=seed) for seed in (0, 1)]
    together = training.train_ensemble(configs, dataset)
    for config, member in zip(configs, together, strict=True):
        alone = training.train(config, dataset)
        np.testing.assert_allclose(member.arrays["fc1"], alone.arrays["fc1"], rtol=1e-4)


def test_an_ensemble_of_controls_takes_the_norms_of_each(digits, penalized):
    other = dataclasses.replace(CONTROLLED, seed=1)
    norms = [penalized.arrays["norms"], training.train(other, digits).arrays["norms"]]
    controls = [dataclasses.replace(c, norm_matched=True) for c in (CONTROLLED, other)]
    together = training.train_ensemble(controls, digits, norms=norms)
    for config, member, each in zip(controls, together, norms, strict=True):
        alone = training.train(config, digits, norms=each)
        np.testing.assert_allclose(member.arrays["fc1"], alone.arrays["fc1"], rtol=2e-4)


def test_runs_that_differ_in_more_than_their_seeds_are_no_ensemble(digits):
    with pytest.raises(ValueError, match="differ in their seeds alone"):
        training.train_ensemble([TINY, dataclasses.replace(TINY, learning_rate=1.0)], digits)


def test_every_epoch_and_seed_has_an_order_of_its_own_with_each_image_once():
    config = dataclasses.replace(TINY, batch_size=30)
    orders = [
        training._batches(dataclasses.replace(config, seed=seed), epoch, 64)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for order in orders:
        assert order.shape == (2, 30)
        assert len(np.unique(order)) == 60
    assert len({order.tobytes() for order in orders}) == 3


def test_initial_weights_depend_on_the_seed_alone():
    def kernel(**changes):
        _, params, _ = steps.initial(dataclasses.replace(MINI, **changes))
        return params["fc1"]["kernel"]

    np.testing.assert_array_equal(kernel(), kernel(batch_size=8, penalty="l2", dense_norm=True))
    assert abs(kernel() - kernel(seed=1)).max() > 0.01


def test_a_control_has_the_norms_of_the_penalized_run_but_not_its_spectrum(digits, penalized):
    control = dataclasses.replace(CONTROLLED, norm_matched=True)
    outcome = training.train(control, digits, norms=penalized.arrays["norms"])
    norms = penalized.arrays["norms"]
    assert norms.shape == (8, 3)
    for index, layer in enumerate(("fc1", "fc2", "fc3")):
        weights = np.asarray(outcome.state.params[layer]["kernel"])
        assert np.linalg.norm(weights) == pytest.approx(norms[-1, index], rel=1e-5)
    plain = training.train(TINY, digits)
    largest = [each.arrays["fc1"][-1][0] for each in (plain, outcome, penalized)]
    assert largest[0] == pytest.approx(largest[1], rel=0.02)
    assert largest[2] > 1.05 * largest[1]


def test_the_control_of_a_penalty_without_strength_is_the_plain_run(digits):
    weak = dataclasses.replace(CONTROLLED, strength=0.0)
    norms = training.train(weak, digits).arrays["norms"]
    control = training.train(dataclasses.replace(weak, norm_matched=True), digits, norms=norms)
    plain = training.train(TINY, digits)
    np.testing.assert_allclose(control.arrays["fc1"], plain.arrays["fc1"], rtol=1e-4)


def test_a_control_without_its_norms_is_refused(digits, penalized):
    control = dataclasses.replace(CONTROLLED, norm_matched=True)
    for norms in (None, penalized.arrays["norms"][:-1]):
        with pytest.raises(ValueError, match="expected those of 8 steps for b16"):
            training.train(control, digits, norms=norms)


def test_norms_are_given_to_weights_alone():
    params = {
        "a": {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.ones(2)},
        "b": {"kernel": jnp.zeros((2, 2))},
        "norm": {"scale": jnp.ones(2)},
    }
    step = jax.tree.map(jnp.copy, params)
    after = optax.apply_updates(params, penalties.at_norms(step, params, jnp.array([4.0, 4.0])))
    np.testing.assert_allclose(after["a"]["kernel"], 2)
    np.testing.assert_allclose(after["a"]["bias"], 2)
    np.testing.assert_allclose(after["b"]["kernel"], 0)
    np.testing.assert_allclose(penalties.norms(after), [4, 0])


def _first_update(penalty, strength, **changes):
    """What the penalty's gradient alone changes in one step of plain SGD."""
    config = dataclasses.replace(
        TINY, penalty=penalty, strength=strength, momentum=0.0, learning_rate=1.0, **changes
    )
    _, params, _ = steps.initial(config)
    optimizer = penalties.make_optimizer(config)
    zeros = optax.tree.zeros_like(params)
    updates, _ = jax.jit(lambda: optimizer.update(zeros, optimizer.init(params), params))()
    return params, updates


def test_l2_is_keras_and_touches_fc1_and_fc2_alone():
    params, updates = _first_update("l2", 0.05)
    for layer in ("fc1", "fc2"):
        np.testing.assert_allclose(updates[layer]["kernel"], -0.1 * params[layer]["kernel"])
        assert not updates[layer]["bias"].any()
    assert not updates["fc3"]["kernel"].any()


@pytest.mark.parametrize("penalty", penalties.SPECTRAL)
def test_each_spectral_penalty_pushes_its_metric_down_in_fc1_and_fc2(penalty):
    params, updates = _first_update(penalty, 1e-3)
    for layer, shape in LAYERS["tiny"].items():
        metric = penalties._metric(penalty, shape)
        before = params[layer]["kernel"]
        assert metric(before + updates[layer]["kernel"]) < metric(before)
    assert not updates["fc3"]["kernel"].any()
    assert not optax.tree.norm(_first_update(penalty, 1e-3, norm_matched=True)[1]) > 0


def test_unknown_names_are_refused():
    for field, match in (
        ({"penalty": "l3", "strength": 1.0}, "penalty is 'l3'; expected one of l2, dropout"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected one of sgd"),
        ({"network": "vgg"}, "network is 'vgg'; expected one of mini_alexnet"),
        (
            {"network": "lenet5", "dense_norm": True},
            "dense_norm is True; expected False",
        ),
    ):
        config = dataclasses.replace(TINY, **field)
        refuses = steps.initial if "network" in field else penalties.make_optimizer
        with pytest.raises(ValueError, match=match):
            refuses(config)


def test_strengths_are_in_units_of_the_sum_of_the_learning_rates():
    config = dataclasses.replace(TINY, epochs=3, decay=0.5)
    # 4 steps an epoch at .01, .005 and .0025, ten times that with momentum.
    assert penalties.unit_of_strength(config) == pytest.approx(1 / (10 * 4 * 0.0175))
    assert penalties.penalized(config, "alpha_hat", 0.1).strength == 0.14
    assert penalties.penalized(config, "dropout", 0.35).strength == 0.35


def test_random_labels_replace_the_share_asked_for(digits):
    config = dataclasses.replace(TINY, random_labels=1.0)
    labels = labels_of(config, digits)
    assert (labels == digits.train_labels).mean() < 0.4
    half = labels_of(dataclasses.replace(TINY, random_labels=0.5), digits)
    assert 0.5 <= (half == digits.train_labels).mean() < 0.75
    np.testing.assert_array_equal(labels_of(TINY, digits), digits.train_labels)


def test_losses_on_uniform_logits():
    logits, labels = jnp.zeros((2, 10)), jnp.array([3, 7])
    np.testing.assert_allclose(steps.cross_entropy(logits, labels), np.log(10), rtol=1e-6)
    np.testing.assert_allclose(steps.mean_squared_error(logits, labels), 0.09, rtol=1e-6)


def test_spectra_are_squared_singular_values_and_nan_where_weights_are():
    weights = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    weights[:, 0] *= 1e-3
    weights[:, 1] = 0
    expected = np.linalg.svd(weights.astype(np.float64), compute_uv=False) ** 2
    np.testing.assert_allclose(measures.eigenvalues(weights), expected, rtol=1e-8, atol=1e-12)
    assert np.isnan(measures.eigenvalues(weights * np.nan)).all()
    assert np.isnan(measures.localization(weights * np.nan)).all()


def test_localization_tells_a_spike_on_one_input_from_the_bulk():
    weights = np.random.default_rng(0).normal(size=(200, 60)) / 14
    weights[:, 5] += 1.0
    row = dict(zip(measures.LOCALIZATION, measures.localization(weights), strict=True))
    assert row["num_spikes"] == 1
    assert row["spikes_participation_ratio"] < 1.1 < row["bulk_participation_ratio"]


def test_fresh_statistics_are_those_of_the_images_without_dropout(digits):
    config = dataclasses.replace(TINY, penalty="dropout", strength=0.5)
    graph, params, stats = steps.initial(config)
    fresh = measures.fresh_statistics(graph, params, stats, digits.train_images[:8])
    again = measures.fresh_statistics(graph, params, fresh, digits.train_images[:8])
    np.testing.assert_allclose(fresh["norm"]["mean"], again["norm"]["mean"])
    assert float(abs(fresh["norm"]["mean"]).max()) > 0.1


def test_a_batch_larger_than_the_training_set_is_refused(digits):
    config = dataclasses.replace(TINY, batch_size=65)
    with pytest.raises(ValueError, match="batch_size is 65; expected at most 64"):
        training.train(config, digits)
    with pytest.raises(ValueError, match=r"len\(train_images\) is 64; expected 16"):
        training.train(dataclasses.replace(TINY, train_size=16), digits)
