"""Correlation traps and the trace-log condition: known answers, and the peer's rule."""

import numpy as np
import pytest
from draws import RNG

import fitting

NULLS = {
    "Gaussian": lambda: RNG.normal(size=(120, 80)),
    "t(3)": lambda: RNG.standard_t(3, (120, 80)),
    "uniform": lambda: RNG.uniform(-1, 1, (120, 80)),
    "with a mean": lambda: RNG.normal(size=(120, 80)) + 3,
    "of low rank": lambda: np.outer(RNG.normal(size=120), RNG.normal(size=80)),
}


@pytest.mark.parametrize("kind", NULLS)
def test_no_trap_where_none_was_set(kind):
    found = [fitting.find_traps(NULLS[kind]()) for _ in range(20)]
    assert sum(traps.num_traps for traps in found) == 0


@pytest.mark.parametrize("num", [1, 4])
def test_entries_that_stand_apart_are_traps(num):
    W = RNG.normal(size=(200, 120))
    W.flat[RNG.choice(W.size, num, replace=False)] = 1.1 * (200**0.5 + 120**0.5)
    found = fitting.find_traps(W)
    assert (found.num_traps, found.eigenvalues.size) == (num, num)
    assert found.p_value < 1e-6
    assert found.eigenvalues[0] > found.edge
    assert fitting.find_traps(W.T + 5).num_traps == num


def test_what_is_too_small_for_the_edge_or_the_test():
    W = RNG.normal(size=(400, 300))
    W[0, 0] = 13  # stands apart, and is lost in the noise
    found = fitting.find_traps(W)
    assert (found.num_traps, found.p_value < 1e-3) == (0, True)
    assert fitting.find_traps(np.ones((80, 60))).num_traps == 0
    assert fitting.find_traps(RNG.normal(size=(40, 200))).p_value == 1
    with pytest.raises(ValueError, match="finite"):
        fitting.find_traps(np.full((80, 60), np.nan))


def by_products(eigenvalues):
    """WeightWatcher 0.7.7's loop, eigenvalues scaled to a mean of 1."""
    values = np.sort(eigenvalues) / np.mean(eigenvalues)
    for first in range(len(values) - 1, 0, -1):
        if np.prod(values[first:]) < 1:
            return len(values) - first
    return len(values)


@pytest.mark.parametrize("shape", [(60, 50), (300, 60), (200, 200), (50, 400)])
@pytest.mark.parametrize("tail", [2.5, 4, 30])
def test_the_trace_log_tail_is_that_of_the_product(shape, tail):
    eigenvalues = np.linalg.svd(RNG.standard_t(tail, shape), compute_uv=False) ** 2
    for unit in (1.0, 1e-200, 1e200):
        found = fitting.trace_log(unit * eigenvalues, num_bootstrap=0)
        assert found.num_tail == by_products(eigenvalues)
        assert found.threshold == unit * eigenvalues[found.num_tail - 1]


def test_where_the_product_leaves_float64_and_where_nothing_falls():
    eigenvalues = np.r_[np.full(400, 50.0), np.full(3000, 0.05)]
    mean = eigenvalues.mean()
    with np.errstate(over="ignore"):
        assert np.isinf(np.prod(eigenvalues[:400] / mean))
    expected = 400 + int(np.ceil(400 * np.log(50 / mean) / -np.log(0.05 / mean)))
    assert fitting.trace_log(eigenvalues, num_bootstrap=0).num_tail == expected
    assert fitting.trace_log(np.full(30, 2.0)).num_tail == 30
    assert fitting.trace_log(np.r_[5.0, np.zeros(9)], num_bootstrap=0).num_tail == 2
    with pytest.raises(ValueError, match="eigenvalues are all zero; expected"):
        fitting.trace_log(np.zeros(5))
    with pytest.raises(ValueError, match="num_bootstrap is -1"):
        fitting.trace_log(np.ones(5), num_bootstrap=-1)


def test_the_error_of_the_tail_is_that_of_other_draws():
    rng = np.random.default_rng(0)  # of its own: RNG depends on which tests ran before
    draws = [rng.pareto(1.5, 400) + 1 for _ in range(60)]
    found = [fitting.trace_log(values) for values in draws]
    scatter = np.std([one.num_tail for one in found])
    # It is the square of an error that is right in the mean.
    error = np.sqrt(np.mean([one.sigma**2 for one in found]))
    assert 0.6 * scatter < error < 1.6 * scatter


def test_columns_of_a_report_are_asked_for():
    W = RNG.standard_t(4, (200, 120))
    W[3, 5] = 2000
    params = {"fc": {"kernel": W}, "nan": {"kernel": np.full((60, 60), np.nan)}}
    plain = fitting.evaluate(params, progress=False).layers
    assert plain[["num_traps", "trace_log_num"]].isna().all().all()
    row = fitting.evaluate(params, extras=["traps", "trace_log"], progress=False).layers.loc[0]
    assert row["num_traps"] == 1
    assert row["trap_p_value"] < 1e-3
    eigenvalues = np.linalg.svd(W, compute_uv=False) ** 2
    assert row["trace_log_num"] == fitting.trace_log(eigenvalues).num_tail
    with pytest.raises(ValueError, match=r"extras is \['trap'\]; expected a list of traps"):
        fitting.evaluate(params, extras=["trap"], progress=False)
