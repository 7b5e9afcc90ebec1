"""A log as posted becomes the kernel's own lines: encodings undone, prefixes off, wrapped lines joined."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from fastalloc.explain.prefix import Line, strip_prefix
from fastalloc.linux.mem_info import KEYWORDS
from fastalloc.posted import plain

_ESCAPED_NEWLINE = re.compile(r"#012|\\x0a|\\n(?= ?[a-z_]+:)")
# A word of the report across the end of a line: the line was broken inside it.
_KEYWORD = re.compile("|".join(map(re.escape, sorted(KEYWORDS, key=len, reverse=True))))
_INSIDE = (
    (re.compile(r"[:=*(]\s?\d+$|\s\d+$"), re.compile(r"\d*\*\d|\d*\s?[kK]B\b")),  # 12 | 34kB, 1 | 2*4kB
    (re.compile(r"\*\s?\d+$|\d\s?[kK]$"), re.compile(r"\d*[kK]?B\b")),
    (re.compile(r"\d\*$"), re.compile(r"\d+[kK]B")),
    (re.compile(r"\border[:=]\s?\d+$"), re.compile(r"\d*,")),
    (re.compile(r"(?:mode:|gfp_mask=|gfp=)0?x?[0-9a-f]*$"), re.compile(r"x?[0-9a-f]+[(,)]")),
    (re.compile(r"\([UMEHCIR]+$"), re.compile(r"[UMEHCIR]*\)")),
    (re.compile(r"__?(?:GFP_[A-Z]*|G|GF)$|\bGFP_[A-Z_]*$|\|_?$"), re.compile(r"[A-Z_|0-9]+[|)]")),
    (re.compile(r"[a-z_()]{3,}:$"), re.compile(r"\d+[kK]B\b")),
)
# A line of zones or lists that ends inside a word.
_BROKEN_OFF = re.compile(
    r"\dkB [a-z_]*[a-z_(]$|\dkB (?!pages_scanned)[a-z_()]+:\d*$|\dkB(?: \([A-Z]+\))? \d+\*?\d*k?$|\([A-Z]+$"
)


class Text:
    """The kernel's text of a part of a log: one string, and for each place in it the line and who printed it."""

    def __init__(self, lines: Sequence[Line], joins: Sequence[str]) -> None:
        self.lines = list(lines)
        self._starts: list[int] = []
        parts, at = [], 0
        for line, join in zip(lines, joins, strict=True):
            parts.append(join)
            at += len(join)
            self._starts.append(at)
            parts.append(line.text)
            at += len(line.text)
        self.string = "".join(parts)
        self.cut_width = _cut_width(self.lines) if all(joins[1:]) else None

    def index(self, offset: int) -> int:
        """The line (by its place in ``lines``) that holds an offset of ``string``."""
        return max(bisect_right(self._starts, offset) - 1, 0)

    def caller(self, offset: int) -> str:
        """Who printed the text at an offset, where the log says so."""
        return self.lines[self.index(offset)].caller if self.lines else ""

    def number(self, offset: int) -> int:
        """The line of the input, from 1, that holds an offset."""
        return self.lines[self.index(offset)].number if self.lines else 0

    def near(self, first: int, second: int, lines: int, seconds: float) -> bool:
        """Two offsets are fewer ``lines`` apart and, where both have a stamp, no more than ``seconds``."""
        stamps = self.stamp(first), self.stamp(second)
        if stamps[0] is not None and stamps[1] is not None and abs(stamps[1] - stamps[0]) > seconds:
            return False
        return abs(self.index(second) - self.index(first)) < lines

    def stamp(self, offset: int) -> float | None:
        """The stamp, in seconds, of the line that holds an offset, or of the one that it goes on from."""
        index = self.index(offset)
        return next((line.stamp for line in reversed(self.lines[max(index - 3, 0) : index + 1]) if line.stamped), None)

    def is_cut(self, offset: int) -> bool:
        """True where a terminal cut the line that ends at ``offset``, so that its last number may be a part of one."""
        at_end = self.string[offset : offset + 1] in ("", "\n")
        return at_end and self.cut_width is not None and self.lines[self.index(offset)].width == self.cut_width

    def start(self, index: int) -> int:
        """The offset at which a line starts."""
        return self._starts[index]

    def line_end(self, offset: int) -> int:
        """The offset at which the line that holds ``offset`` ends."""
        end = self.string.find("\n", offset)
        return len(self.string) if end < 0 else end


def _cut_width(lines: Sequence[Line]) -> int | None:
    """The width at which a terminal cut every longer line; None where lines end by themselves."""
    widest = max((line.width for line in lines), default=0)
    at_edge = [line for line in lines if line.width == widest]
    broken = any(_BROKEN_OFF.search(line.text) for line in at_edge)
    return widest if widest >= 20 and len(at_edge) >= 2 and broken else None


def clean(raw: str, first_number: int = 1) -> Text:
    """Undoes what mail, syslog, terminals and web pages did to a part of a log.

    ``first_number``: the number of its first line in the input.
    """
    raw = plain(raw)
    lines: list[Line] = []
    for number, posted in enumerate(raw.split("\n"), first_number):
        for place, part in enumerate(_ESCAPED_NEWLINE.split(posted)):
            if place:  # inside a record: neither a start nor a wrap
                lines.append(Line(part, False, lines[-1].caller, None, 0, number))
            else:
                lines.append(strip_prefix(part, number))
    lines = _carry_callers(_without_margin(_forwards(lines)))
    return Text(lines, _joins(lines))


def _forwards(lines: list[Line]) -> list[Line]:
    """Turns a log with its newest line first (``journalctl -r``)."""
    stamps = [line.stamp for line in lines if line.stamp is not None]
    steps = [later - earlier for earlier, later in pairwise(stamps) if later != earlier]
    if len(steps) < 8 or sum(step < 0 for step in steps) < 0.9 * len(steps):
        return lines
    records: list[list[Line]] = []
    for line in lines:
        if line.stamped or not records:
            records.append([])
        records[-1].append(line)
    return [line for record in reversed(records) for line in record]


def _without_margin(lines: list[Line]) -> list[Line]:
    """Takes off the margin that a mail gives to all lines: what stands before the stamps, else what all share."""
    margin = _common(line.text for line in lines if line.text.strip() and line.width) if lines else ""
    cleaned = []
    for line in lines:
        if line.stamped:
            margin = line.indent
        elif margin and line.text.startswith(margin):
            line = line._replace(text=line.text[len(margin) :])
        cleaned.append(line)
    return cleaned


def _common(texts: Iterable[str]) -> str:
    margins = [text[: len(text) - len(text.lstrip(" \t"))] for text in texts]
    shortest = min(margins, key=len, default="")
    return shortest if all(margin.startswith(shortest) for margin in margins) else ""


def _carry_callers(lines: list[Line]) -> list[Line]:
    """A line without a stamp belongs to whoever printed the line before."""
    carried, caller = [], ""
    for line in lines:
        if line.stamped:
            caller = line.caller
        elif line.caller != caller:
            line = line._replace(caller=caller)
        carried.append(line)
    return carried


def _joins(lines: Sequence[Line]) -> list[str]:
    """What stands between each line and the one before: nothing where a word was broken, else a line's end."""
    joins = ["\n"] * len(lines)
    if not lines:
        return joins
    joins[0] = ""
    broken = [index for index in range(1, len(lines)) if _is_inside_word(lines[index - 1], lines[index])]
    for index in broken:
        joins[index] = ""
    # A terminal breaks every line at its width. One such width explains every break, then it holds for numbers too.
    widths = Counter(lines[index - 1].width for index in broken)
    if widths:
        width, count = widths.most_common(1)[0]
        longer = sum(line.width > width for line in lines)
        if count >= max(2, 0.5 * len(broken)) and longer <= 0.02 * len(lines):
            for index in range(1, len(lines)):
                if lines[index - 1].width == width and not lines[index].stamped:
                    joins[index] = ""
    return joins


def _is_inside_word(before: Line, after: Line) -> bool:
    if after.stamped or not before.text or not after.text or before.width == 0:
        return False
    tail, head = before.text[-40:], after.text[:40]
    if tail[-1] in " \t" or head[0] in " \t":
        return False
    for end, start in _INSIDE:
        if end.search(tail) and start.match(head):
            return True
    border = len(tail[-24:])
    return any(found.start() < border < found.end() for found in _KEYWORD.finditer(tail[-24:] + head[:24]))
