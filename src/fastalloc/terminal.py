"""Tables and consoles: text of others has its control characters escaped there, and no markup of its own."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fastalloc.errors import printable

WIDE = 200  # columns where there is no terminal


class Table(RichTable):
    """A table without lines whose cells are plain text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"box": None, "pad_edge": False} | options))

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        """A column; a header that is text is printed as it is, on the lines it has."""
        if isinstance(header, str):
            header = Text("\n".join(map(printable, header.split("\n"))))
        super().add_column(header, *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row; cells that are text are printed as they are."""
        super().add_row(*map(_plain, cells), **options)


def _plain(cell: Any) -> Any:
    return Text(printable(cell)) if isinstance(cell, str) else cell


def console(width: int | None = WIDE, stderr: bool = False) -> Console:
    """A console on stdout or stderr that takes text as it is; ``width`` counts where it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    plain = getattr(stream, "plain", stream)  # colours pass
    on_terminal = plain.isatty() if plain is not None else False
    return Console(file=plain, width=None if on_terminal else width, markup=False, highlight=False, emoji=False)
