"""Tables for the terminal, which break no number and no name in the middle."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A name that is shorter than this tells nothing.
MIN_NAME = 16
ELIDED = "…"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: Of one or more lines.
        is_name: Whether it holds names, on the left, which are elided where there is no room.
        drop: Where there is no room still, the first column to be left out has 1; 0 always stays.
        max_width: Beyond which its text is cut at the end; 0 for none.
    """

    heading: str
    is_name: bool = False
    drop: int = 0
    max_width: int = 0

    def width(self, cells: Sequence[str]) -> int:
        """How many characters it takes."""
        longest = max((len(text) for text in (*self.heading.split("\n"), *cells)), default=0)
        return min(longest, self.max_width) if self.max_width else longest


def print_table(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of plain text in the width of the console.

    Names give way first, a part in their middle after the other; then whole columns.
    """
    kept = [*range(len(columns))]
    widths = [column.width([row[place] for row in rows]) for place, column in enumerate(columns)]
    names = [place for place in kept if columns[place].is_name]
    while True:
        numbers = sum(widths[place] + 1 for place in kept if place not in names)
        room = (console.width - numbers - len(names)) // max(len(names), 1)
        left_out = min(
            (p for p in kept if columns[p].drop), key=lambda p: columns[p].drop, default=None
        )
        needed = max((min(widths[place], MIN_NAME) for place in names), default=0)
        if room >= needed or left_out is None:
            break
        kept.remove(left_out)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for place in kept:
        column = columns[place]
        table.add_column(
            escape(column.heading),
            justify="left" if column.is_name or column.max_width else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=column.max_width or None,
        )
    for row in rows:
        row = [_printable(text) for text in row]
        texts = (elide(row[p], max(room, needed)) if p in names else row[p] for p in kept)
        table.add_row(*map(escape, texts))
    console.print(table)


def _printable(text: str) -> str:
    """Text without what would move the cursor or colour the rest, as a name of a file may."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def elide(name: str, width: int) -> str:
    """A path in at most so many characters: what tells least goes first, its end stays.

    Those are the parts in the middle, before the numbers of layers and the first part.
    """
    if len(name) <= width:
        return name
    parts = name.split("/")
    places = range(len(parts) - 1)
    middle = len(parts) / 2
    least = sorted(places, key=lambda p: (parts[p].isdecimal(), p == 0, abs(p - middle)))
    for number in range(1, len(parts)):
        dropped = set(least[:number])
        kept = [ELIDED if p in dropped else part for p, part in enumerate(parts)]
        short = "/".join(
            part for p, part in enumerate(kept) if part != ELIDED or kept[p - 1 : p] != [ELIDED]
        )
        if len(short) <= width:
            return short
    return ELIDED + name[len(name) - width + 1 :]
