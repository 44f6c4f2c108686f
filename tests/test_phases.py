"""The phases: planted families, what a result says, invariance, bad input."""

import dataclasses
import math
import pickle
from collections import Counter

import numpy as np
import pytest
from planted_spectra import (
    FAMILIES,
    SHAPES,
    edge,
    haar,
    law_phases,
    noise,
    phases,
    plant,
)

import fitting
from fitting import Phase, classify_phase

SEED = 41


# --- T17


@pytest.mark.parametrize("family", FAMILIES)
def test_planted_families_are_named_rightly(family):
    expected = FAMILIES[family][0]
    for shape in SHAPES:
        draws = 1 if shape[0] == 4096 else 3
        assert phases(family, shape, draws, SEED) == {expected: draws}, shape


@pytest.mark.slow
def test_planted_families_are_named_rightly_in_985_of_1000():
    right = total = 0
    for family, (expected, _) in FAMILIES.items():
        for shape in SHAPES:
            right += phases(family, shape, 25, SEED + 1)[expected]
            total += 25
    assert right >= 0.985 * total


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exact_power_law_over_a_bulk_is_heavy_or_a_decay(shape):
    """What a penalty on the distance from a power law leaves of a random layer."""
    found = law_phases(shape, 1, SEED)
    assert set(found) == {Phase.HEAVY_TAILED, Phase.BULK_DECAY}
    # A law of a quarter and more of the spectrum is heavy, of a tenth a decay.
    assert found[Phase.HEAVY_TAILED] == 3 * found[Phase.BULK_DECAY]


def test_exact_power_law_spectrum_is_heavy():
    values = (1 - (np.arange(400) + 0.5) / 400) ** (-1 / 1.5)
    result = classify_phase(values, (1000, 400))
    assert result.phase is Phase.HEAVY_TAILED
    assert result.power_law.alpha == pytest.approx(2.5, abs=0.02)
    assert result.mp_soft_rank == 0
    assert 0 < result.mp_soft_rank_raw < 0.1


def test_soft_rank_falls_from_phase_to_phase():
    rng = np.random.default_rng(SEED)
    ranks = [
        classify_phase(FAMILIES[family][1]((1000, 400), rng), (1000, 400)).mp_soft_rank
        for family in ("random", "bleeding", "bulk-decay", "heavy (b)")
    ]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > 0.97
    assert ranks[-1] == 0


def test_tail_over_thirty_decades_is_no_rank_collapse():
    rng = np.random.default_rng(SEED)
    entries = rng.choice([-1.0, 1.0], (400, 200)) * (1 - rng.uniform(size=(400, 200))) ** -2
    result = classify_phase(entries)
    assert result.evidence["zero_share"] == 0
    assert result.phase is Phase.HEAVY_TAILED


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_low_rank_is_seen_at_either_accuracy(dtype):
    rng = np.random.default_rng(SEED)
    matrix = (rng.normal(size=(300, 60)) @ rng.normal(size=(60, 100))).astype(dtype)
    result = classify_phase(matrix)
    assert result.phase is Phase.RANK_COLLAPSE
    assert result.evidence["zero_share"] == pytest.approx(0.4)


def test_columns_that_decayed_away_are_a_rank_collapse():
    # what weight decay leaves of dead channels: no zeros, no gap, eighteen decades
    rng = np.random.default_rng(SEED)
    matrix = noise((576, 64), rng)
    matrix[:, :20] *= 10.0 ** rng.uniform(-9, -3.5, 20)
    result = classify_phase(matrix)
    assert result.phase is Phase.RANK_COLLAPSE
    assert result.evidence["zero_share"] == pytest.approx(20 / 64)


@pytest.mark.parametrize(
    ("num_above", "top", "phases"),
    [
        (0, 1.0, {Phase.RANDOM_LIKE}),
        (3, 1.06, {Phase.BLEEDING_OUT}),
        (20, 2.1, {Phase.BULK_SPIKES}),
        (46, 14.0, {Phase.BULK_DECAY, Phase.HEAVY_TAILED}),
    ],
    ids=["b=500", "b=128", "b=32", "b=8"],
)
def test_a_layer_like_the_trained_ones_is_named_as_the_paper_would(num_above, top, phases):
    # 4096 x 384, Glorot-normal; number above the edge and lambda_max / edge as seen after training
    rng = np.random.default_rng([SEED, num_above])
    shape = (4096, 384)
    targets = edge(shape) * np.geomspace(1.03, top, num_above)
    matrix = (8192 / 4480) ** 0.5 * plant(noise(shape, rng), targets, rng)
    result = classify_phase(matrix)
    assert result.phase in phases
    assert result.marchenko_pastur.lambda_plus == pytest.approx(3.12, rel=0.015)
    assert abs(result.marchenko_pastur.num_spikes - num_above) <= 3


# --- what a result says


def test_result_carries_reasons_evidence_and_margins():
    rng = np.random.default_rng(SEED)
    matrix = plant(noise((600, 300), rng), edge((600, 300)) * np.array([1.6, 2.5]), rng)
    result = classify_phase(matrix)
    assert result.phase is Phase.BULK_SPIKES
    assert result.reasons[0].startswith("2 eigenvalues lie above")
    assert result.evidence["num_outliers"] == 2
    assert result.evidence["outlier_share"] == pytest.approx(2 / 300)
    assert result.margins["outlier_share"] == pytest.approx(2 / 300 - 0.065)
    assert result.margins["edge_ratio"] == pytest.approx(
        result.evidence["edge_ratio"] - result.evidence["edge_ratio_cut"]
    )
    assert result.evidence["num_eigenvalues"] == 300
    assert result.margins["min_eigenvalues"] == 300 - 50
    assert result.margins.keys() == {field.name for field in dataclasses.fields(fitting.PhaseCuts)}
    ratio = result.evidence["edge_ratio"]
    assert result.margins["random_ratio"] == pytest.approx(ratio - fitting.PhaseCuts.random_ratio)
    assert all(math.isfinite(value) for value in result.evidence.values())
    assert pickle.loads(pickle.dumps(result)).evidence == result.evidence


def test_cuts_can_be_set():
    rng = np.random.default_rng(SEED)
    matrix = plant(noise((600, 300), rng), edge((600, 300)) * np.array([1.6, 2.5]), rng)
    assert classify_phase(matrix, cuts=fitting.PhaseCuts(edge_ratio=5)).phase is Phase.BLEEDING_OUT
    many = fitting.PhaseCuts(outlier_share=0.001, detached=9)
    assert classify_phase(matrix, cuts=many).phase is Phase.BULK_DECAY


def test_many_spikes_clear_of_the_bulk_stay_spikes():
    rng = np.random.default_rng(SEED)
    targets = edge((128, 64)) * rng.uniform(2, 100, 20)
    assert classify_phase(plant(noise((128, 64), rng), targets, rng)).phase is Phase.BULK_SPIKES


# --- invariance (T10) and orientation


@pytest.mark.parametrize("family", ["random", "bulk+spikes", "bulk-decay", "heavy (b)"])
def test_phase_is_scale_free(family):
    values = FAMILIES[family][1]((384, 192), np.random.default_rng(SEED))
    first = classify_phase(values, (384, 192))
    for scale in (1e-12, 1e9):
        other = classify_phase(scale * values[::-1], (192, 384))
        assert other.phase is first.phase
        for name, value in first.evidence.items():
            assert other.evidence[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name


def test_phase_does_not_depend_on_basis_or_orientation():
    rng = np.random.default_rng(SEED)
    matrix = plant(noise((300, 150), rng), edge((300, 150)) * np.array([2.0, 3.0]), rng)
    turned = haar(300, 300, rng) @ matrix @ haar(150, 150, rng).T
    results = [classify_phase(m) for m in (matrix, matrix.T, turned, matrix.astype(np.float32))]
    assert {r.phase for r in results} == {Phase.BULK_SPIKES}
    ranks = [r.mp_soft_rank for r in results]
    np.testing.assert_allclose(ranks, ranks[0], rtol=1e-5)


# --- degenerate and bad input


@pytest.mark.parametrize(
    ("values", "shape", "phase", "reason"),
    [
        (np.ones(10), (192, 10), Phase.UNCLASSIFIED, "10 eigenvalues; 50 are needed"),
        (np.zeros(100), (100, 100), Phase.UNCLASSIFIED, "all eigenvalues are zero"),
        (np.ones(100), (300, 100), Phase.UNCLASSIFIED, "unexplained"),
        (np.eye(100)[0], (300, 100), Phase.RANK_COLLAPSE, "99% of the eigenvalues are zero"),
        (np.r_[np.zeros(88), np.ones(12)], (100, 100), Phase.RANK_COLLAPSE, "88%"),
        (np.r_[np.zeros(45), np.arange(1.0, 6.0)], (50, 50), Phase.RANK_COLLAPSE, "90%"),
    ],
)
def test_degenerate_spectra(values, shape, phase, reason):
    result = classify_phase(values, shape)
    assert result.phase is phase
    assert reason in result.reasons[0]


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (np.ones(5), None, "shape is None; expected the two sides"),
        (np.ones(5), (5, 4), "has 5; expected 4 for a matrix"),
        (np.ones((5, 4)), (5, 5), "shape is .*; expected"),
        (np.ones((2, 3, 4)), None, "matrix has shape"),
        (np.full((60, 60), np.nan), None, "NaN"),
        (-np.ones(60), (60, 60), "of at least 0"),
        (np.full(60, np.inf), (60, 60), "infinite"),
        (np.zeros((0, 5)), None, "matrix has shape"),
        (np.ones((60, 60)) * 1j, None, "complex"),
        ([], (0, 0), "empty"),
    ],
)
def test_bad_input_is_refused_with_a_reason(given, shape, message):
    with pytest.raises(ValueError, match=message):
        classify_phase(given, shape)


def test_every_phase_of_the_paper_is_found():
    rng = np.random.default_rng(SEED)
    found = Counter(
        classify_phase(generate((384, 192), rng), (384, 192)).phase
        for _, generate in FAMILIES.values()
    )
    assert set(found) == set(Phase) - {Phase.UNCLASSIFIED}
