"""The code on the pages runs: Python block by block, and each line for the shell."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from fitting._command import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"  # whose Python pytest runs as doctests
PAGES = [ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+) -->\n\n?)?^```python\n(?P<code>.*?)^```$", re.M | re.S
)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    code: str
    line: int  # of the page, where the code begins
    reason: str | None  # why it is not run


def blocks(page):
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["code"], text.count("\n", 0, match.start("code")), match["reason"])
        for match in BLOCK.finditer(text)
    ]
    # Whatever is to be shown as Python is found, in a list or by another name too.
    assert len(found) == len(re.findall(r"(?:```|~~~)\W*(?:code-block\W+)?py", text, re.I)), page
    assert sum(block.reason is not None for block in found) == text.count("not run:"), page
    return found


def shell_lines(page):
    consoles = CONSOLE.findall(page.read_text(encoding="utf-8"))
    return [line for console in consoles for line in console.splitlines()]


WITH_PYTHON = [page for page in PAGES if blocks(page)]
COMMANDS = sorted(
    {
        line
        for page in (README, *PAGES)
        for line in shell_lines(page)
        if line.startswith("spectral-reg ")
    }
)


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, to work in."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for depth in (8, 14, 20, 32):
        torch.save({"fc.weight": torch.randn(100, 60, generator=generator)}, f"resnet{depth}.pth")
    torch.save({"fc.weight": torch.randn(100, 60, generator=generator)}, "tuned.pth")
    (tmp_path / "run").mkdir()
    for step in (100, 200):
        torch.save({"fc.weight": torch.randn(100, 60, generator=generator)}, f"run/{step}.pth")
    (tmp_path / "accuracies.csv").write_text("resnet8,1\nresnet14,2\nresnet20,3\nresnet32,4\n")
    return tmp_path


def test_the_pages_for_each_user_have_code():
    assert {page.stem for page in WITH_PYTHON} >= {"trainer", "experimenter", "evaluator"}
    assert COMMANDS


@pytest.mark.usefixtures("promoted_types")  # pages run Optax's own optimizers
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(page, in_a_folder):
    # What a page takes from its reader's own program.
    noise = np.random.default_rng(0).normal(size=(4096, 384)).astype(np.float32)
    namespace = {"params": {"fc1": {"kernel": jnp.asarray(noise)}}, "task_loss": jnp.float32(1.0)}
    for block in blocks(page):
        if block.reason is None:
            # So that an error names the line of the page.
            exec(compile("\n" * block.line + block.code, page, "exec"), namespace)


def test_the_python_of_the_readme_is_doctests():
    assert all(block.code.startswith(">>> ") for block in blocks(README))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, in_a_folder, capsys):
    program, *arguments = shlex.split(command, comments=True)
    assert (program, main(arguments)) == ("spectral-reg", 0), capsys.readouterr().err


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_a_page_runs_exist(page):
    for module in re.findall(r"python\s-m\s([\w.]+)", page.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file() or module == "pytest", module


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_extras_that_a_page_installs_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"pip install '[\w.-]+\[(.+)\]'", page.read_text(encoding="utf-8")):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
