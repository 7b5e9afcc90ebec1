"""What stands before the kernel's own text on a line: quoting, dates, stamps, levels, callers, prompts."""

import re
from typing import NamedTuple

from fastalloc.posted import ANSI

_QUOTE = re.compile(r"^(?:[ \t]*[>|])+[ \t]?")
_WRAP_MARK = re.compile(r"^\+(?=\S)")

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"
_ISO = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_TAG = r"(?:\S{1,80} )?(?:\S*kern\S*|printk|dmesg\S*)\s*(?:\[\d*\])?\s*(?:\(\s*\d+\))?:"
# Each of these may stand at the start of a line, one after another. The stamp of a caller ("[ T1778]") names the task.
_PARTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"<\d{1,3}>(?:\d{1,4} )?",
        r"\d{1,3},\d+,\d+,[-cC+fn](?:,(?P<caller1>caller=[TC]\d+))?(?:,[^;\s]*)?;",  # /dev/kmsg, netconsole
        rf"(?:\w{{3}} )?{_MONTH}\s{{1,2}}\d{{1,2}} (?:\d{{4}} )?{_CLOCK}(?: \d{{4}})?(?:\s+{_TAG})?\s?",
        rf"{_ISO}(?:\s+{_TAG})?\s?",
        rf"\d\d-\d\d {_CLOCK}(?:\s+(?:root|\d+))?(?:\s+\d+)?(?:\s+\d+)?\s+[VDIWEF][\s/]+\S+\s*(?:\(\s*\d+\))?\s*:\s?",
        r"[VDIWEF]/\S+\s*\(\s*\d+\)\s*:\s?",
        r"\[\s*(?P<stamp>\d+[.:]\d+)(?:,\d+)?\s*\](?:\([A-Z\d]+\))?",
        r"\[\s*(?P<caller2>[TC]\s*\d+)\s*\]",
        rf"\[(?:\w{{3}} )?{_MONTH}\s{{1,2}}\d{{1,2}} {_CLOCK}(?: \d{{4}})?\]",
        r"\[[^\]\d]{1,16}\d{1,2}[^\]\d]{1,8}\d\d:\d\d:\d\d \d{4}\]",  # a date of another language
        rf"\[{_ISO}\]",
        rf"\[{_CLOCK}\]",
        r"\(\d+\)\[\d+:[^\]]{1,24}\]",
        r"\[\d: {0,3}[^\]:]{1,16}: *\d+\]",
        r"-?c\d{1,2} +\d{1,6} +(?=\S)",
        r"(?:MESSAGE=|kernel:|-?\(\d+\) )",
        rf"{_TAG}(?=\s|$)",
        r"(?:[\w./-]*/)?(?:[\w-]+\.log|messages|syslog|dmesg)(?:[.-][\w.]+)?:(?:\d+:)?",  # grep's file and line
        r"\S{1,40} +\| ",  # a container's log
        r"\d{1,7}(?:\t|[ ]{1,8}(?=\[\s*\d+\.\d))",  # cat -n
        r"(?:\w+@[\w.-]+[: ]\S* ?)[#$] ",  # a prompt
    )
)


class Line(NamedTuple):
    """A line without its prefix.

    ``stamped``: a prefix of the log stood before it, so a record begins here. ``caller``: the task or CPU that printed
    it, where the log says so. ``width``: of the line as posted, without its end. ``number``: in the input, from 1.
    """

    text: str
    stamped: bool
    caller: str
    stamp: float | None
    width: int
    number: int
    indent: str = ""  # before the stamp: of a mail, not of the kernel


def strip_prefix(raw: str, number: int = 0) -> Line:
    """Takes quoting, dates, stamps and levels off a line."""
    width = len(raw)
    if "\x1b" in raw:
        raw = ANSI.sub("", raw)
    text = raw
    quote = _QUOTE.match(text)
    if quote:
        text = text[quote.end() :]
    text = _WRAP_MARK.sub("", text)
    stamped, caller, stamp = False, "", None
    body = text.lstrip(" \t\ufeff\xa0")
    for _ in range(8):
        for part in _PARTS:
            found = part.match(body)
            if found and found.end():
                break
        else:
            break
        groups = found.groupdict()
        caller = (groups.get("caller1") or groups.get("caller2") or caller).replace("caller=", "").replace(" ", "")
        if groups.get("stamp"):
            stamp = float(groups["stamp"].replace(":", "."))
        stamped = True
        # One blank belongs to the prefix; what is left of the indent is the kernel's (" active_file:..").
        body = body[found.end() :]
        if re.match(r"\s*[\[<(]", body) or re.match(r"\s*(?:kernel|\w+@)", body):
            body = body.lstrip()
        elif body[:1] == " ":
            body = body[1:]
        if body[:1] not in ("[", "<", "(") and not _may_go_on(body):
            break
    indent = text[: len(text) - len(text.lstrip(" \t"))] if stamped else ""
    return Line(body if stamped else text, stamped, caller, stamp, width, number, indent)


def _may_go_on(body: str) -> bool:
    return bool(
        re.match(rf"(?:\d|(?:\w{{3}} )?{_MONTH} |[a-z]+@|[\w.-]+ kern|kern|c\d|[VDIWEF][ /]|\S+ \||-?\()", body)
    )
