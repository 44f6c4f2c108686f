"""A search for xmin between bounds; counts and masked arrays, which are no spectra."""

import numpy as np
import powerlaw
import pytest
from draws import RNG
from kinds_of_spectra import spectrum

import fitting
from fitting._power_laws import _scan

HEAVY = spectrum(RNG.standard_t(3, (300, 200)))


@pytest.mark.parametrize("shares", [(0.2, 0.8), (0.5, 0.9), (0.0, 0.3), (0.7, 1.0)])
@pytest.mark.parametrize("ks", ["one-sided", "two-sided"])
def test_the_best_of_the_candidates_between_the_bounds(shares, ks):
    low, high = np.quantile(HEAVY, shares)
    fit = fitting.fit_power_law(HEAVY, xmin=(low, high), ks=ks)
    candidates = np.sort(HEAVY)[:-2]
    fits = [
        fitting.fit_power_law(HEAVY, xmin=xmin, ks=ks)
        for xmin in candidates[(candidates >= low) & (candidates <= high)]
    ]
    best = min(fits, key=lambda fit: fit.ks_distance)
    assert (fit.xmin, fit.alpha, fit.num_tail) == pytest.approx(
        (best.xmin, best.alpha, best.num_tail)
    )
    assert fit.xmin_range == (low, high)
    assert not fit.xmin_given


@pytest.mark.filterwarnings("ignore:Standard error for the MLE:DeprecationWarning")
def test_as_powerlaw_with_a_range():
    low, high = np.quantile(HEAVY, (0.3, 0.95))
    peer = powerlaw.Fit(
        HEAVY, xmin=(low, high), parameter_ranges={"alpha": [1.01, None]}, verbose=0
    )
    fit = fitting.fit_power_law(HEAVY, xmin=(low, high))
    assert (fit.xmin, fit.ks_distance) == pytest.approx((peer.xmin, peer.D), rel=1e-10)
    assert fit.alpha == pytest.approx(peer.alpha, rel=1e-10)


def test_a_bound_that_is_an_eigenvalue_is_within():
    values = np.sort(HEAVY)
    for unit in (1.0, 1e-30, 7e11):
        only = unit * values[50]
        assert fitting.fit_power_law(unit * values, xmin=(only, only * (1 + 1e-9))).xmin == only
    open_ended = fitting.fit_power_law(values, xmin=(None, values[60]))
    assert open_ended.xmin <= values[60]
    assert fitting.fit_power_law(values, xmin=(None, None)) == fitting.fit_power_law(values)


def test_p_values_search_between_the_same_bounds(monkeypatch):
    low = np.quantile(HEAVY, 0.6)
    fit = fitting.fit_power_law(HEAVY, xmin=(low, None))
    p = fitting.goodness_of_fit(HEAVY, fit, num_bootstrap=300)
    assert p > 0.1
    assert np.isfinite(fitting.bootstrap_sigma(HEAVY, fit, num_bootstrap=200))
    starts = []
    from fitting._power_laws import _scan_many

    real = _scan_many.scan_rows

    def spy(rows, *options):
        found = real(rows, *options)
        starts.append(rows[np.arange(len(rows)), found[0]].min())
        return found

    monkeypatch.setattr(_scan_many, "scan_rows", spy)
    fitting.goodness_of_fit(HEAVY, fit, num_bootstrap=50)
    assert min(starts) >= np.log(low / HEAVY.max()) - 1e-9


def test_no_tail_within():
    fit = fitting.fit_power_law(HEAVY, xmin=(np.sort(HEAVY)[-1], None))
    assert not fit.valid
    assert "in the range of xmin" in fit.reason
    assert _scan.scan(np.log(np.sort(HEAVY)), np.inf, 2, False, -np.inf, 99.0, 100.0)[0] == -1


@pytest.mark.parametrize(
    ("xmin", "message"),
    [
        ((5.0, 2.0), r"xmin is \(5\.0, 2\.0\); expected low below high"),
        ((0.0, 2.0), r"xmin is \(0\.0, 2\.0\); expected \(low, high\), positive"),
        ((np.nan, 2.0), "xmin is .* expected .*positive and finite"),
        ((1.0, 2.0, 3.0), r"expected \(low, high\)"),
        ((1e9, 2e9), "expected a range that holds one of the positive eigenvalues"),
        ((1e-9, 2e-9), "expected a range that holds one of the positive eigenvalues"),
    ],
)
def test_bad_ranges(xmin, message):
    with pytest.raises(ValueError, match=message):
        fitting.fit_power_law(HEAVY, xmin=xmin)


def test_counts_are_said_to_be_of_a_discrete_law():
    counts = RNG.zipf(2.5, size=3000)
    for values in (counts, counts.astype(float)):
        with pytest.warns(UserWarning, match=r"whole numbers.*discrete=True"):
            fitting.fit_power_law(values)
    # Whole numbers all apart, and equal numbers that are not whole, are spectra like others.
    fitting.fit_power_law(np.arange(1.0, 200.0))
    fitting.fit_power_law(np.repeat(HEAVY, 2))
    fitting.fit_power_law(np.repeat([1.0, 4.0, 9.0], 30))


def test_masked_entries_are_refused():
    masked = np.ma.masked_greater(HEAVY, np.median(HEAVY))
    with pytest.raises(ValueError, match=r"masked array with 100 masked entries.*compressed"):
        fitting.fit_power_law(masked)
    with pytest.raises(ValueError, match="matrix_or_eigenvalues is a masked array with 1 masked"):
        fitting.classify_phase(np.ma.masked_equal(np.diag([2.0] + [1.0] * 59), 2.0))
    assert fitting.fit_power_law(np.ma.masked_array(HEAVY)) == fitting.fit_power_law(HEAVY)
