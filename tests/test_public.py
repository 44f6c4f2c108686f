"""What both packages promise: documented public names, light imports, arrows that point one way."""

import inspect
import subprocess
import sys

import pytest

import fitting
import spectral_reg
from fitting import _requirements

# What was public before the modules moved into folders: a name may be added, and none may go.
FIRST = {
    spectral_reg: """
        ConvOperator MatrixAxes SpectralMetric SpectralPenaltyState add_spectral_penalty
        alpha alpha_hat by_path conv_operator eigenvalues frozen_csn hill hinge
        is_layer_matrix lambda_max layer_matrices layer_spectra log_frobenius_norm
        log_spectral_norm log_stable_rank log_stable_rank_ratio matrix_entropy norm_metric
        params_from_torch path_name sampled smooth_hill soft_csn spectral_metric
        spectral_norm spectral_penalty stable_rank target
    """,
    fitting: """
        Comparison DistributionComparison LocalizationMeasures LocalizationResult
        MarchenkoPastur MarchenkoPasturFit Phase PhaseCuts PhaseResult PooledSpectrum
        PowerLawFit PowerLawFits Report SpikeSignals UniversalityClass bootstrap_sigma
        classify_phase compare compare_distributions compare_values evaluate
        fit_marchenko_pastur fit_power_law fit_power_laws goodness_of_fit
        largest_eigenvalue_law load_report localization pool_spectra shuffled_null
        spike_signals tracy_widom_cdf tracy_widom_quantile universality_class
    """,
}

PUBLIC = [(package, name) for package in (spectral_reg, fitting) for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_public_names_are_documented(package, name):
    thing = getattr(package, name)
    documentation = inspect.getdoc(thing)
    assert documentation, "no docstring"
    first, _, rest = documentation.partition("\n")
    assert first.endswith("."), "the first line is a sentence"
    if inspect.isfunction(thing):
        sections = ["Returns:", "Example:"]
        if inspect.signature(thing).parameters:
            sections.append("Args:")
        missing = [section for section in sections if section not in rest]
        assert not missing


@pytest.mark.parametrize("package", [spectral_reg, fitting])
def test_all_is_what_is_imported(package):
    names = {
        name
        for name, thing in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert names == set(package.__all__)
    assert list(package.__all__) == sorted(package.__all__)


@pytest.mark.parametrize("package", [spectral_reg, fitting])
def test_no_public_name_is_lost(package):
    assert set(FIRST[package].split()) <= set(package.__all__)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        ("spectral_reg", ("torch", "powerlaw", "matplotlib", "pandas", "numba", "flax", "fitting")),
        ("fitting", ("torch", "powerlaw", "matplotlib", "numba")),
    ],
)
def test_imports_are_light(package, absent):
    assert run(f"import sys, {package}; print([m for m in {absent!r} if m in sys.modules])") == "[]"


def test_what_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(_requirements, "PACKAGES", ("numpy", "no_such_package"))
    said = r"fitting needs no_such_package, .* pip install 'spectral-reg\[fitting\]'$"
    with pytest.raises(ImportError, match=said):
        _requirements.check_installed()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/spectral-reg", "evaluate"])
    with pytest.raises(SystemExit, match=f"^spectral-reg: {said}"):
        _requirements.check_installed()
