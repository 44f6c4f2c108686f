"""Which matrices are called heavy: not noise, not independent entries of any kind."""

import numpy as np
import pytest
from planted_spectra import (
    eigenvalues,
    gaussian_spectrum,
    haar,
    healthy,
    heavy_entries,
    heavy_spectrum,
    noise,
)

from fitting import Phase, classify_phase

SEED = 41


# --- Gaussian noise is not healthy, heavy tails are


@pytest.mark.parametrize(("shape", "draws"), [((64, 64), 200), ((128, 64), 200), ((512, 256), 20)])
def test_gaussian_noise_is_not_heavy(shape, draws):
    assert healthy(gaussian_spectrum, shape, draws, SEED) <= 0.02 * draws


@pytest.mark.parametrize("generate", [heavy_spectrum, heavy_entries])
@pytest.mark.parametrize(("shape", "draws"), [((128, 64), 60), ((512, 256), 20)])
def test_heavy_spectra_are_heavy(generate, shape, draws):
    assert healthy(generate, shape, draws, SEED) >= 0.95 * draws


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (512, 256), (1024, 1024)])
def test_verdicts_on_a_thousand_draws(shape):
    assert healthy(gaussian_spectrum, shape, 1000, SEED) <= 20
    draws = 50 if shape[0] == 1024 else 500
    found = [healthy(generate, shape, draws, SEED) for generate in (heavy_spectrum, heavy_entries)]
    needed = 0.9 if shape == (64, 64) else 0.95
    assert min(found) >= needed * draws


def test_gaussian_spectrum_is_that_of_a_gaussian_matrix():
    rng = np.random.default_rng(SEED)
    spectra = np.stack([gaussian_spectrum((60, 40), rng) for _ in range(400)])
    direct = np.stack([eigenvalues(rng.normal(size=(60, 40)))[::-1] for _ in range(400)])
    np.testing.assert_allclose(spectra.mean(axis=0), direct.mean(axis=0), rtol=0.05, atol=0.15)


# --- the panel of false positives, 1000 x 400


def entries(name):
    rng = np.random.default_rng(SEED)
    shape = (1000, 400)
    return {
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "Rademacher": lambda: rng.choice([-1.0, 1.0], shape),
        "Laplace": lambda: rng.laplace(size=shape),
        "t5": lambda: rng.standard_t(5, shape),
        "truncated normal": lambda: np.clip(rng.normal(size=shape), -2, 2),
        "mean 0.02": lambda: rng.normal(0.02, 1, shape),
        "mean 0.1": lambda: rng.normal(0.1, 1, shape),
        "mean 1": lambda: rng.normal(1, 1, shape),
        "t3": lambda: rng.standard_t(3, shape),
        "rows scaled": lambda: rng.normal(size=shape) * rng.uniform(0.5, 1.5, (1000, 1)),
        "columns scaled": lambda: rng.normal(size=shape) * rng.uniform(0.5, 1.5, 400),
        "columns log-normal": lambda: rng.normal(size=shape) * np.exp(rng.normal(0, 0.5, 400)),
        "orthogonal": lambda: haar(1000, 400, rng),
        "nearly orthogonal": lambda: haar(1000, 400, rng) + 0.1 * noise(shape, rng),
        "product": lambda: rng.normal(size=shape) @ rng.normal(size=(400, 400)),
        "dead columns": lambda: rng.normal(size=shape) * (rng.uniform(size=400) > 0.3),
    }[name]()


@pytest.mark.parametrize(
    "name", ["uniform", "Rademacher", "Laplace", "t5", "truncated normal", "mean 0.02"]
)
def test_independent_entries_are_random_like(name):
    result = classify_phase(entries(name))
    assert result.phase is Phase.RANDOM_LIKE
    assert result.marchenko_pastur.num_spikes <= 1


@pytest.mark.parametrize(("name", "num_spikes"), [("mean 0.1", 1), ("mean 1", 1)])
def test_a_mean_is_one_spike(name, num_spikes):
    result = classify_phase(entries(name))
    assert result.phase is Phase.BULK_SPIKES
    assert result.marchenko_pastur.num_spikes == num_spikes


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("t3", Phase.BULK_SPIKES),
        # A profile of variances spreads the bulk past its edge: no spectrum tells it from a signal.
        ("rows scaled", Phase.BLEEDING_OUT),
        ("columns scaled", Phase.BULK_DECAY),
        # a power law fits its last tenth, but not all that the bulk leaves
        ("columns log-normal", Phase.UNCLASSIFIED),
        ("orthogonal", Phase.UNCLASSIFIED),
        ("nearly orthogonal", Phase.UNCLASSIFIED),
        ("product", Phase.UNCLASSIFIED),
        ("dead columns", Phase.RANK_COLLAPSE),
    ],
)
def test_what_looks_like_a_signal_or_a_tail(name, phase):
    assert classify_phase(entries(name)).phase is phase


@pytest.mark.parametrize("seed", range(3))
def test_a_strong_weight_decay_leaves_a_cliff_below_the_classes(seed):
    # As L2 left FC1 of MiniAlexNet: ten eigenvalues, and a rest that decays over many orders.
    rng = np.random.default_rng(seed)
    classes = rng.uniform(0.05, 1, size=10)
    rest = 0.003 * np.exp(-np.sort(rng.exponential(2.0, size=374)))
    result = classify_phase(np.concatenate([classes, rest]), (4096, 384))
    assert result.phase is Phase.RANK_COLLAPSE
    assert result.reasons[0] == "a cliff lies below the largest 10"


def test_a_power_law_has_no_cliff():
    rng = np.random.default_rng(0)
    for alpha in (1.5, 2.0, 3.0):
        tails = (1 - rng.random((100, 200))) ** (-1 / (alpha - 1))
        phases = [classify_phase(tail, (400, 200)).phase for tail in tails]
        assert phases.count(Phase.RANK_COLLAPSE) <= 1
