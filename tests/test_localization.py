"""Localization of singular vectors (T8)."""

import math

import numpy as np
import pytest
from planted_spectra import haar, noise

import fitting
from fitting import localization


@pytest.mark.parametrize(
    ("length", "ratio", "participation", "entropy"),
    [(384, 97.3, 3.364, 5.221), (192, 52.3, 2.828, 4.528)],
)
def test_noise_has_random_directions(length, ratio, participation, entropy):
    result = localization(noise((2 * length, length), np.random.default_rng(31)))
    assert result.num_spikes == 0
    for measures in (result.bulk, result.random):
        assert measures.localization_ratio == pytest.approx(ratio, rel=0.03)
        assert measures.participation_ratio == pytest.approx(participation, rel=0.01)
        assert measures.entropy == pytest.approx(entropy, rel=0.005)
    inverse_participation = length * np.mean(result.participation_ratio**-4.0)
    assert inverse_participation == pytest.approx(3 * length / (length + 2), rel=0.02)
    assert math.isnan(result.spikes.entropy)


def test_coordinate_directions_are_as_localized_as_can_be():
    result = localization(np.diag(np.arange(1.0, 65.0)), num_spikes=1)
    assert result.spikes == result.bulk == fitting.LocalizationMeasures(1.0, 1.0, 0.0)
    assert result.localization_ratio.shape == (64,)


def test_flat_direction_is_as_spread_as_can_be():
    flat = np.full(64, 1 / 8)
    matrix = noise((640, 64), np.random.default_rng(32))
    matrix += 1e4 * np.outer(np.eye(640)[0], flat)
    spikes = localization(matrix).spikes
    assert spikes.localization_ratio == pytest.approx(64, rel=1e-3)
    assert spikes.participation_ratio == pytest.approx(64**0.25)
    assert spikes.entropy == pytest.approx(math.log(64))


@pytest.mark.parametrize("turned", [False, True])
def test_spikes_with_few_coordinates_are_told_from_the_bulk(turned):
    rng = np.random.default_rng(33)
    directions = np.zeros((300, 3))
    directions[:15] = haar(15, 3, rng)
    matrix = noise((900, 300), rng) + 4 * haar(900, 3, rng) @ directions.T
    result = localization(matrix.T if turned else matrix)
    assert result.num_spikes == 3
    assert result.entropy.shape == (300,)
    for measure in ("localization_ratio", "participation_ratio", "entropy"):
        spike, bulk = getattr(result.spikes, measure), getattr(result.bulk, measure)
        assert spike < 0.75 * bulk
        assert bulk == pytest.approx(getattr(result.random, measure), rel=0.03)


def test_number_of_spikes_can_be_given():
    result = localization(noise((200, 100), np.random.default_rng(34)), num_spikes=4)
    assert result.num_spikes == 4
    assert result.spikes.entropy == pytest.approx(result.entropy[:4].mean())


def test_directions_without_a_singular_value_are_left_out():
    matrix = noise((200, 100), np.random.default_rng(35))
    matrix[:, 60:] = 0
    result = localization(matrix)
    assert result.entropy.shape == (60,)
    assert np.all(np.isfinite(result.entropy))


def test_zero_matrix_has_no_directions():
    result = localization(np.zeros((40, 20)))
    assert result.num_spikes == 0
    assert math.isnan(result.bulk.entropy)


@pytest.mark.parametrize(
    ("matrix", "num_spikes", "message"),
    [
        (np.ones(4), None, "matrix has shape"),
        (np.full((4, 4), np.inf), None, "infinite"),
        (np.eye(4), 5, "num_spikes is .*; expected 0 to 4"),
        (np.eye(4), -1, "num_spikes is .*; expected 0 to 4"),
    ],
)
def test_bad_input_is_refused_with_a_reason(matrix, num_spikes, message):
    with pytest.raises(ValueError, match=message):
        localization(matrix, num_spikes=num_spikes)
