"""Tables and consoles: text of others has its control characters escaped there, and no markup of its own.

A table that is wider than the terminal, or than ``COLUMNS`` where there is none, loses its columns of the highest rank
and says so; ``--wide`` shows every column, as a block a row where the table does not fit.
"""

import copy
import sys
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fastalloc.errors import printable, printable_lines
from fastalloc.width import PIPE, columns

ENDLESS = 100_000
SHRUNK = 16  # a column that may wrap keeps this much

_all_columns = [False]


def show_all_columns(wanted: bool) -> None:
    """What ``--wide`` says, for the tables of this process."""
    _all_columns[0] = wanted


class Table(RichTable):
    """A table without lines whose cells are plain text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"box": None, "pad_edge": False} | options))
        self._ranks: list[int] = []

    def add_column(self, header: Any = "", *args: Any, rank: int = 0, **options: Any) -> None:
        """A column; a header that is text is printed as it is, on the lines it has.

        ``rank``: where the table is too wide, columns of the highest rank are left out first; 0 stays.
        """
        if isinstance(header, str):
            header = Text(printable_lines(header))
        self._ranks.append(rank)
        super().add_column(header, *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row; cells that are text are printed as they are."""
        super().add_row(*map(_plain, cells), **options)

    def put(self, out: Console) -> None:
        """Prints the table as it fits."""
        wide = _all_columns[0]
        shown = list(range(len(self.columns)))
        while not wide and self._width(shown) > out.width:
            most = max(self._ranks[i] for i in shown)
            if most == 0:
                break
            shown.remove(max(i for i in shown if self._ranks[i] == most))
        if self._width(shown) > out.width:
            return self._put_blocks(out, shown)
        fitting = copy.copy(self)
        fitting.columns = [replace(self.columns[i], _index=n) for n, i in enumerate(shown)]
        out.print(fitting)
        left_out = [_words(column.header) for i, column in enumerate(self.columns) if i not in shown]
        if left_out:
            out.print(Text(f"--wide shows more: {', '.join(left_out)}", style="dim"))
        return None

    def _put_blocks(self, out: Console, shown: list[int]) -> None:
        """A block a row, a line a column."""
        title, *others = (self.columns[i] for i in shown)
        names = [_words(column.header) for column in others]
        across = max(map(cell_len, names), default=0)
        for row in zip(*(column._cells for column in (title, *others)), strict=True):
            out.print(Text.assemble(_text(row[0]), style="bold"))
            for name, cell in zip(names, row[1:], strict=True):
                out.print(Text.assemble(f"  {name.ljust(across)}  ", _text(cell)))

    def _width(self, shown: list[int]) -> int:
        """Columns of the terminal that the table needs."""
        _, right, _, left = Padding.unpack(self.padding)
        widths = []
        for i in shown:
            column = self.columns[i]
            lines = [line for cell in (column.header, *column._cells) for line in str(cell).split("\n")]
            natural = max(map(cell_len, lines), default=0)
            widths.append(natural if column.no_wrap else min(natural, max(SHRUNK, column.min_width or 0)))
        return sum(widths) + (left + right) * (len(widths) - 1)


def _plain(cell: Any) -> Any:
    return Text(printable(cell)) if isinstance(cell, str) else cell


def _text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _words(header: Any) -> str:
    """A header on one line."""
    return " ".join(str(header).split())


class _Plain(Console):
    """A console that escapes what a string holds beside marks on paper and ends of lines."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; strings are no markup."""
        super().print(*(printable_lines(each) if isinstance(each, str) else each for each in objects), **options)


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr that takes text as it is.

    It is as wide as ``COLUMNS`` says, else as the terminal, else 80; with ``--wide`` a pipe without ``COLUMNS`` is
    endless.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = columns(stream) or (ENDLESS if _all_columns[0] else PIPE)
    plain = getattr(stream, "plain", stream)  # colours pass
    return _Plain(file=plain, width=width, markup=False, highlight=False, emoji=False)
