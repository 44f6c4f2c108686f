"""What both packages promise: documented public names, light imports, arrows that point one way."""

import inspect
import subprocess
import sys

import pytest

import fitting
import spectral_reg
from fitting import _requirements

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
