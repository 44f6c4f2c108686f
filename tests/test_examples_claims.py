"""The claims of the papers: decided where the numbers say so, and only there."""

import dataclasses

from fake_training import finished, noise

from examples.papers import claims
from examples.papers import published_runs as paper
from examples.presenting import rows
from examples.training.config import Config


def by_phase(config, phase, seeds=2, **changes):
    """A group whose FC1 is said to be in a phase."""
    group = [rows.row(finished(config, seed, **changes)) for seed in range(seeds)]

    class Named(rows.Layer):
        @property
        def phase(self):
            return phase

    return rows.Group(
        config,
        [row._replace(layers=row.layers | {"fc1": Named(*row.layers["fc1"])}) for row in group],
    )


def test_claims_hold_where_the_numbers_say_so_and_only_there():
    base = Config("cifar10", 50_000, 10_000, 32, 1, init="original")
    groups = {
        size: by_phase(
            dataclasses.replace(base, batch_size=size),
            theirs.phase,
            final_test_accuracy=theirs.test or 0.7,
        )
        for size, theirs in paper.SWEEP.items()
    }
    decided = {(claim.name, claim.text): claim for claim in claims.batch_sizes(groups)}
    for (name, text), claim in decided.items():
        if name in ("R4 phase", "R4 accuracy") or ">= 250" in text:
            assert claim.holds, claim
        else:
            # The spectra are noise at every batch size.
            assert claim.holds is False, claim
    accuracy = claims.batch_sizes({b: groups[b] for b in (500, 32)})[-2:]
    assert [claim.holds for claim in accuracy] == [True, None]
    rates = {rate: by_phase(base, phase) for rate, phase in paper.LEARNING_RATES.items()}
    assert claims.learning_rates(rates).holds
    assert not claims.learning_rates(rates | {0.01: by_phase(base, "BULK_DECAY")}).holds
    assert claims.learning_rates({}).holds is None


def test_runs_that_were_trained_too_little_refute_nothing():
    base = Config("cifar10", 50_000, 10_000, 32, 1, init="original")

    def decided(reached):
        groups = {
            size: by_phase(
                dataclasses.replace(base, batch_size=size),
                "BULK_SPIKES",
                final_train_accuracy=reached,
                final_test_accuracy=0.7,
            )
            for size in (500, 32)
        }
        found = claims.batch_sizes(groups)
        (phase,) = [claim for claim in found if claim.text == "FC1 RANDOM_LIKE at b = 500"]
        (accuracy,) = [claim for claim in found if claim.text.startswith("b = 32 tests")]
        return phase, accuracy

    # The papers reach .861 at b = 500 and .993 at b = 32.
    assert [claim.holds for claim in decided(0.98)] == [False, False]
    phase, accuracy = decided(0.85)
    assert (phase.holds, accuracy.holds) == (False, None)
    assert accuracy.evidence == "0.7000 to 0.7000; trained to 0.850 at b = 32"
    assert [claim.holds for claim in decided(0.8)] == [None, None]
    held = by_phase(base, "HEAVY_TAILED", final_train_accuracy=0.2)
    assert claims.learning_rates(dict.fromkeys(paper.LEARNING_RATES, held)).holds is None


def test_untrained_layers_are_held_to_the_random_ones():
    config = Config("cifar10", 50_000, 10_000, 32, 1)
    # The stable rank of noise falls 3 % short of the theory of infinite matrices at FC2's size.
    claim = claims.start([finished(config)])
    assert "random 1/1" in claim.evidence
    cell = finished(config)
    cell.arrays["fc1"][0, 0] *= 2
    broken = claims.start([cell])
    assert not broken.holds
    assert "FC1 1" in broken.evidence


def test_a_penalty_is_held_against_the_same_run_without_it():
    config = Config("digits", 64, 32, 32, 1, network="tiny")
    plain = finished(config)
    penalized = finished(dataclasses.replace(config, penalty="spectral_norm", strength=0.1))
    for name in ("fc1", "fc2"):
        penalized.arrays[name][-1] *= 0.9
    decided = {claim.text.split()[0]: claim for claim in claims.penalties([plain, penalized])}
    assert decided["spectral_norm"].holds
    assert decided["spectral_norm"].evidence == "2 of 2"
    assert decided["alpha_hat"].holds is None
    penalized.arrays["fc2"][-1] *= 2
    (claim,) = [c for c in claims.penalties([plain, penalized]) if c.holds is not None]
    assert claim.evidence == "1 of 2"


def test_l2_claims_compare_baseline_and_l2():
    config = Config("digits", 64, 32, 32, 1, network="tiny")
    plain = finished(config, final_test_accuracy=0.7)
    strong = finished(
        dataclasses.replace(config, penalty="l2", strength=1.0), final_test_accuracy=0.695
    )
    for name, shape in (("fc1", (147, 64)), ("fc2", (64, 50))):
        spiked = noise(shape).copy() * 1e-8
        spiked[:3] = 1.0
        strong.arrays[name][-1] = spiked
    runs = {
        name: rows.Group(cell.config, [rows.row(cell)])
        for name, cell in (("baseline", plain), ("L2", strong))
    }
    assert [claim.holds for claim in claims.explicit(runs, [plain, strong])] == [True] * 4
    assert [claim.holds for claim in claims.explicit({}, [plain])] == [None] * 4
