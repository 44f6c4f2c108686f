"""The site: an entry for every public name, and tutorials that run."""

import inspect
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

import fitting
import spectral_reg

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = sorted(path.stem for path in (DOCS / "tutorials").glob("*.py"))


@pytest.mark.parametrize("package", [spectral_reg, fitting])
def test_every_public_name_has_one_entry(package):
    page = (DOCS / "api" / f"{package.__name__}.rst").read_text()
    entries = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", page, re.MULTILINE)
    assert sorted(entries) == sorted(package.__all__)


@pytest.mark.parametrize("package", [spectral_reg, fitting])
def test_methods_and_properties_have_entries_too(package):
    page = (DOCS / "api" / f"{package.__name__}.rst").read_text()
    with_members = re.findall(r"^\.\. autoclass:: (\w+)\n   :members:", page, re.MULTILINE)
    for name in package.__all__:
        own = vars(getattr(package, name)) if inspect.isclass(getattr(package, name)) else {}
        public = [key for key in own if not key.startswith("_")]
        if any(inspect.isfunction(own[key]) or isinstance(own[key], property) for key in public):
            assert name in with_members


def test_the_citation_is_of_this_version():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    citation = (DOCS.parent / "CITATION.cff").read_text()
    assert re.findall("^version: (.*)$", citation, re.MULTILINE) == [project["version"]]


def test_there_are_tutorials():
    assert {"penalty", "phases", "compare"} <= set(TUTORIALS)


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_run(name, monkeypatch, capsys, quick_to_compile):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--smoke"])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    runpy.run_path(str(DOCS / "tutorials" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    # The output on the site has the same lines, of other numbers.
    shown = (DOCS / "tutorials" / f"{name}.txt").read_text()
    for text in (printed, shown):
        assert not re.search(r"\bnan\b", text)
    assert headings(printed) == headings(shown)


def headings(text):
    """The words of the lines without numbers; columns may be wider."""
    return [
        line.split() for line in text.splitlines() if line.strip() and not re.search(r"\d", line)
    ]
