"""What an example printed and what made it, as Markdown."""

import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.sweeping import cells
from fitting._whole_file import written_whole


def shown(value: float | None, style: str) -> str:
    """A number in a table; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, style)


def with_error(value: float, error: float, style: str) -> str:
    """A number with its standard error, where that is known."""
    return shown(value, style) + (f" ± {error:{style}}" if math.isfinite(error) else "")


def write(path: Path, heading: str, sections: Sequence[str | Table], command: str) -> Path:
    """Writes tables and paragraphs, then the command, commit and machine behind them.

    Args:
        path: The Markdown file.
        heading: Its title.
        sections: Paragraphs of Markdown, and tables, which are written as they are printed.
        command: The command that makes it.

    Returns:
        The path.
    """
    made = cells.origin()
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    origin = [
        f"- command: `{command}`",
        f"- commit: {made['commit']}",
        f"- machine: {made['processor']}, {made['num_cores']} cores, {made['system']}",
        f"- versions: Python {made['python']}, {versions}",
        "",
    ]
    return document(path, heading, sections, origin)


def document(
    path: Path, heading: str, sections: Sequence[str | Table], origin: Sequence[str]
) -> Path:
    """Writes tables, paragraphs and the lines that say where they come from."""
    lines = [f"# {heading}", ""]
    for section in sections:
        if isinstance(section, str):
            lines += [section, ""]
            continue
        text = StringIO()
        Console(file=text, width=120).print(section)
        printed = [line.rstrip() for line in text.getvalue().strip("\n").splitlines()]
        lines += ["```", *printed, "```", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        unfinished.write_text("\n".join([*lines, *origin]), encoding="utf-8")
    return path
