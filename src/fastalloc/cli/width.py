"""Text that was laid out for no width in particular, for a terminal of some width."""

import os
import sys
import textwrap

LEAST = 40  # columns


def fitted(text: str) -> str:
    """``text``, each line that is longer than the terminal, or than ``COLUMNS``, continued below, further in.

    A pipe without ``COLUMNS`` gets the lines as they are.
    """
    width = columns()
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * min(len(line) - len(line.lstrip()) + 4, width // 3)
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


def columns() -> int | None:
    """Width of the terminal, or what ``COLUMNS`` says; None for a pipe without."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and len(told) < 6:
        return max(LEAST, int(told))
    plain = getattr(sys.stdout, "plain", sys.stdout)
    try:
        return max(LEAST, os.get_terminal_size(plain.fileno()).columns) if plain.isatty() else None
    except (OSError, ValueError):
        return None
