"""The lines of a text that somebody posted, without what a mail, a terminal or a log puts before each of them."""

import itertools
import re

from fastalloc.errors import InputError
from fastalloc.posted import ANSI, plain

MOST_LINES = 200_000  # of a text
LONGEST = 4096  # characters of a line: none that tells of a machine has more, and rules that look back take the square
_WIDE = re.compile(r"([ \t]{64})[ \t]+|(\d{40})\d+")  # what no line has, cut

# What stands before a line of a log or of a quoted mail.
_QUOTE = re.compile(r"^(?:[>|] ?)+(?=\s*\S)")
_STAMP = re.compile(
    r"^(?:<\d+>)?(?:[a-z]{3,8} *:[a-z]{3,6} *: )?"
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ |\d{4}-\d\d-\d\dT\S+ \S+ )?(?:kernel: ?)?"
    r"(?:\[ *\+?\d+\.\d+\](?: ?\[ *[CT]\d+\])? ?)?"
)
_NUMBERED = re.compile(r"^ *(\d{1,6})(?:\t|: ?| {1,2}(?=\S| ))")
# Lines whose begin is known, behind whatever a log wrote before them.
_ANCHOR = re.compile(
    r"^(.{0,200}?)(?:Node\s+\d+,\s*zone\s+\w+$|(?:Node \d+ )?(?:DMA|DMA32|Normal|HighMem|Movable) free:\d+kB"
    r"|MemTotal:\s+\d+ kB$|slabinfo - version|# ?name\s+<active_objs>"
    r"|(?:dma-)?kmalloc[-_]\S+(?:\s+\d+){5}\s*:\s*tunables)"
)
_IN_ANCHOR = re.compile("zone|free:|MemTotal|slabinfo|active_objs|kmalloc")  # a word of each, found faster
_PARTS = re.compile(r"\d+|\s+|[A-Za-z]+|[^\dA-Za-z\s]")
_DATE = re.compile("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun")
NEAR = 30  # lines after one with a prefix, of which most must have it
MOST_SHAPES = 4  # of prefixes in a text


def clean(text: str, path: object) -> list[str]:
    """Lines as the kernel wrote them: without encodings, markup, byte order marks, quote marks, line numbers and what a
    log puts before each; indentation stays.

    Raises InputError where there are more than MOST_LINES; what a line has beyond LONGEST is left out.
    """
    text = ANSI.sub("", plain(text)).replace("\ufeff", "").replace("#012", "\n")
    if text.count("\\n") > text.count("\n"):  # inside a string of JSON or of a program
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    posted = text.splitlines()
    if len(posted) > MOST_LINES:
        raise InputError(path, "", f"has {len(posted):,} lines; give the part that tells of the machine")
    lines = _unnumbered([_WIDE.sub(r"\1\2", line[:LONGEST]) for line in posted])
    lines = _without_prefix([_QUOTE.sub("", line.rstrip()) for line in lines])
    return [_STAMP.sub("", line, count=1) for line in lines]


def _without_prefix(lines: list[str]) -> list[str]:
    """Lines without what every line of a log has before it, whatever that is: it is what stands before a line whose
    begin is known, with other numbers and months, and most lines that follow have it too."""
    known: list[re.Pattern[str]] = []
    for at, line in enumerate(lines):
        anchor = _ANCHOR.match(line) if _IN_ANCHOR.search(line) else None
        if anchor is None or not anchor[1].strip() or any(shape.match(line) for shape in known):
            continue
        shape = re.compile("".join(_shape(part) for part in _PARTS.findall(anchor[1].rstrip())) + r"(?: |\t|$)?")
        after = [other for other in lines[at + 1 : at + 1 + NEAR] if other.strip()]
        if sum(shape.match(other) is not None for other in after) > len(after) / 2:
            known.append(shape)
        if len(known) == MOST_SHAPES:
            break
    for shape in known:
        lines = [shape.sub("", line, count=1) for line in lines]
    return lines


def _shape(part: str) -> str:
    """A pattern for a part of a prefix as another line may have it."""
    if part.isspace():
        return r"\s*"
    if part.isdigit():
        return r"\d+"
    return "[A-Z][a-z]{2}" if _DATE.fullmatch(part) else "[CT]" if part in ("C", "T") else re.escape(part)


def _unnumbered(lines: list[str]) -> list[str]:
    """Lines of ``cat -n``, ``nl`` or a pager without their numbers, where each has the next one."""
    found = [_NUMBERED.match(line) for line in lines if line.strip()]
    numbers = [int(match[1]) for match in found if match is not None]
    if len(numbers) < max(4, len(found)) or any(b != a + 1 for a, b in itertools.pairwise(numbers)):
        return lines
    return [_NUMBERED.sub("", line, count=1) for line in lines]
