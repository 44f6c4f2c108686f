"""The arrows between modules: no circle, none backwards, and public names from the faces alone."""

import ast
import graphlib
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import fitting

ROOT = Path(__file__).parents[1]
PACKAGES = ("spectral_reg", "fitting", "examples")
READERS = (*PACKAGES, "benchmarks", "docs", "tests")

# Which package may import which, beside itself.
ARROWS = {
    "spectral_reg": set(),
    "fitting": {"spectral_reg"},
    "examples": {"spectral_reg", "fitting"},
}


def modules(*packages):
    """Names of modules to their files, an ``__init__.py`` under the name of its package."""
    found = {}
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules(*PACKAGES)


def imports(name, path, known):
    """Every import of a module, whether at its top, in a function or for types alone.

    Yields pairs of the module that is imported and the name that is taken from it, None for the
    module itself.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *filter(None, [node.module])]
            source = ".".join(parts)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield (inner, None) if inner in known else (source, alias.name)


def circle(graph):
    """The modules of a circle, or an empty list."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        name: {source for source, _ in imports(name, path, MODULES) if source in MODULES}
        for name, path in MODULES.items()
    }
    assert len(graph) > 120
    assert sum(map(len, graph.values())) > 350
    assert circle(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages_point_one_way(package):
    allowed = {package} | ARROWS[package]
    backwards = [
        (name, source)
        for name, path in modules(package).items()
        for source, _ in imports(name, path, MODULES)
        if source.partition(".")[0] in {*READERS} - allowed
    ]
    assert backwards == []


def faces(source):
    """The packages that a private module lies in, the innermost first."""
    parts = source.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def test_public_names_come_from_the_faces_of_their_packages():
    past_a_face = []
    readers = modules(*READERS)
    for name, path in readers.items():
        for source, taken in imports(name, path, readers):
            if taken is None or source.partition(".")[0] not in PACKAGES:
                continue
            for face in faces(source):
                if f"{name}.".startswith(f"{face}."):
                    break  # it lies in that package itself
                if taken in getattr(importlib.import_module(face), "__all__", ()):
                    past_a_face.append(f"{name}: {taken} from {source}; expected from {face}")
    assert past_a_face == []


def test_the_walk_sees_a_circle_behind_type_checking(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("def f():\n    from . import other\n")
    other.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import f\n"
    )
    known = {"package.one": one, "package.other": other}
    graph = {name: {s for s, _ in imports(name, path, known)} for name, path in known.items()}
    assert set(circle(graph)) == set(known)


def third_party(package):
    """The packages of others that a package of ours imports, by the names of their imports."""
    sources = {
        s.partition(".")[0] for n, p in modules(package).items() for s, _ in imports(n, p, {})
    }
    return sources - sys.stdlib_module_names - set(READERS)


# Of models that are given to us, whose packages are there if the model is; and what jax brings.
NEED_NO_DECLARATION = {"flax", "equinox", "jaxlib"}


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("spectral_reg", ()),
        ("fitting", ("fitting", "torch", "flax", "keras", "onnx")),
        ("examples", ("fitting", "examples", "torch")),
    ],
)
def test_what_is_imported_is_declared(package, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    declared = {
        re.match(r"[\w-]+", requirement)[0]
        for requirements in (project["dependencies"], *(optional[extra] for extra in extras))
        for requirement in requirements
    }
    names = {"sklearn": "scikit-learn"}
    imported = {names.get(name, name) for name in third_party(package)} - NEED_NO_DECLARATION
    assert imported <= declared
    if package == "spectral_reg":
        assert declared == {"jax", "optax", "numpy"}
    if package == "fitting":
        asked_for = {re.match(r"[\w-]+", requirement)[0] for requirement in optional["fitting"]}
        assert set(fitting._requirements.PACKAGES) == asked_for
