"""How wide a terminal is, and sentences that were laid out for no width in particular made to fit it."""

import os
import re
import sys
import textwrap
from typing import Any

from fastalloc.errors import printable_lines

LEAST = 20  # columns; what is narrower is taken for no width at all
PIPE = 80  # of a pipe or a file, where COLUMNS does not say otherwise
NARROW = 40  # no sentence is made narrower
_LABEL = re.compile(r"(?:[a-z][\w ]{0,13}: +|[a-z]+ {2,})(?=\S)")  # `rules:       2.6.25`, `next    open`
_COMMAND = re.compile(r"(?<=with: )fastalloc [^;]*|`[^`]*`")  # to be copied: never broken


def columns(stream: Any) -> int | None:
    """What ``COLUMNS`` says, else the width of the terminal that ``stream`` is; None for a pipe without."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and len(told) < 6 and int(told) >= LEAST:
        return int(told)
    plain = getattr(stream, "plain", stream)
    try:
        return os.get_terminal_size(plain.fileno()).columns if plain.isatty() else None
    except (AttributeError, OSError, ValueError):
        return None


def fitted(text: str, width: int | None) -> str:
    """``text``, each line that is longer than ``width`` continued below, further in; as it is where that is None."""
    if width is None:
        return text
    width = max(NARROW, width)
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def say(text: str = "", *, err: bool = False) -> None:
    """Prints sentences on stdout or stderr at once, as wide as it is."""
    stream = sys.stderr if err else sys.stdout
    print(fitted(printable_lines(text), columns(stream) or PIPE), file=stream, flush=True)


def _parts(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    label = _LABEL.match(line)
    indent = label.end() if label else len(line) - len(line.lstrip()) + 4
    held = _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), line)
    parts = textwrap.wrap(
        held, width, subsequent_indent=" " * min(indent, width // 3), break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False,
    )  # fmt: skip
    return [part.replace("\0", " ") for part in parts]
