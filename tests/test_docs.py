"""The site: an entry for every public name, pages with their figures, tutorials that run."""

import inspect
import re
import runpy
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fitting
import spectral_reg
from docs.draw import FIGURES
from docs.draw_penalties import NUM_STEPS, PATH, descend

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


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        (
            "penalties",
            {name for name, thing in vars(spectral_reg).items() if hasattr(thing, "of_eigenvalues")}
            | {"power_law_distance", "target", "hinge"},
        ),
        (
            "estimators",
            {"hill", "smooth_hill", "rank_regression", "soft_csn", "frozen_csn", "sampled"},
        ),
    ],
)
def test_every_penalty_and_estimator_has_a_page_with_a_figure(folder, names):
    pages = {path.stem: path.read_text("utf-8") for path in (DOCS / folder).glob("*.md")}
    index = pages.pop("index")
    titles = [
        name for page in pages.values() for name in re.findall(r"`(\w+)`", page.split("\n")[0])
    ]
    assert sorted(titles) == sorted(names)
    for name, page in pages.items():
        assert f"]({name}.md)" in index
        assert f"](../figures/{folder}/{name}.png)" in page


def test_figures_are_those_that_are_drawn():
    files = {
        path.relative_to(DOCS / "figures").as_posix() for path in DOCS.rglob("figures/**/*.png")
    }
    # One is of trained networks, by benchmarks.penalties.
    assert files == {f"{name}.png" for name in FIGURES} | {"penalties/fc1.png"}


@pytest.mark.parametrize("metric", [spectral_reg.matrix_entropy, spectral_reg.stable_rank])
def test_descent_on_a_spectrum_is_descent_on_the_matrix(metric):
    W = jnp.asarray(np.random.default_rng(0).standard_normal((20, 8)), jnp.float32)
    length = PATH / NUM_STEPS * jnp.linalg.norm(W)

    def step(W, _):
        gradient = jax.grad(metric)(W)
        return W - length * gradient / jnp.linalg.norm(gradient), None

    end, _ = jax.lax.scan(step, W, length=NUM_STEPS)
    path = descend(metric, np.asarray(spectral_reg.eigenvalues(W)))
    np.testing.assert_allclose(path[-1], spectral_reg.eigenvalues(end), rtol=1e-3)
    assert abs(path[-1] / path[0] - 1).max() > 0.1


def test_the_citation_is_of_this_version():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    citation = (DOCS.parent / "CITATION.cff").read_text()
    assert re.findall("^version: (.*)$", citation, re.MULTILINE) == [project["version"]]


def test_there_are_tutorials():
    assert {"penalty", "phases", "compare", "watch", "robust"} <= set(TUTORIALS)


@pytest.mark.usefixtures("promoted_types")  # tutorials run Optax's own optimizers
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_run(name, monkeypatch, capsys):
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
