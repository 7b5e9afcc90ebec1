"""The parts of a log that hold a report, found cheaply and one at a time."""

import io
import sys
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fastalloc.bounded import decoded, refuse_endless
from fastalloc.errors import InputError

if TYPE_CHECKING:
    import gzip

# What a report has, however it was posted: most of its lines hold one of these.
_NEEDLES = (
    b"allocation failure", b"oom-killer", b"lowmem_reserve[", b"protections[", b"vmalloc error", b"Mem-Info",
    b"Mem-info", b"Unable to allocate memory on", b"allocation stall", b"emory cgroup out of memory", b"Linux version ",
)  # fmt: skip
_CHUNK = 1 << 20
_BEFORE, _AFTER = 24 << 10, 48 << 10  # bytes of context around a needle: a trace before, lists and tail after
_WHOLE = 192 << 10  # a log up to this size is read whole, so that no broken word hides a report
_LONGEST = 256 << 10  # a part is cut at a head beyond this
_LONGEST_HEADLESS = 512 << 10
_MOST_WIDE = 64 << 20  # a log in UTF-16 is held whole
_LONG_LINE = 64 << 10  # a line beyond this is cut anywhere
_MOST_BYTES = 1 << 30  # of a log, unpacked
_MOST_UNPACKED = 64 << 20  # of one that is packed, or so many times what it has packed
_MOST_GROWTH = 100
_MOST_WITHOUT_LINE = 8 << 20  # bytes without the end of a line: no log, however it was damaged
_HEADS = (b"page allocation failure", b"invoked oom-killer")


def open_log(source: str | PathLike[str] | BinaryIO) -> tuple[str, BinaryIO]:
    """Opens a log.

    Returns:
        Its name for messages, and a binary stream.

    Raises:
        InputError: the file cannot be opened.
    """
    if not isinstance(source, str | PathLike):
        return str(getattr(source, "name", "stream")), source
    if isinstance(source, str) and "\n" in source:
        return "text", io.BytesIO(source.encode("utf-8", "surrogateescape"))
    name = fspath(source)
    if name == "-":
        return "stdin", sys.stdin.buffer
    try:
        refuse_endless(Path(name), _MOST_BYTES, read_once=True)
        file = Path(name).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise InputError(name, "", error.strerror or str(error)) from None
    if file.peek(2)[:2] == b"\x1f\x8b":
        import gzip

        most = max(_MOST_UNPACKED, _MOST_GROWTH * Path(name).stat().st_size)
        return name, cast(BinaryIO, _Unpacked(name, file, gzip.open(file), min(most, _MOST_BYTES)))
    return name, file


class _Unpacked:
    """A packed log, read up to ``most`` bytes."""

    def __init__(self, name: str, packed: BinaryIO, file: "gzip.GzipFile", most: int) -> None:
        self.name, self._packed, self._file, self._most, self._left = name, packed, file, most, most

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InputError(self.name, "", f"is more than {self._most:,} bytes once unpacked; unpack it first")
        return data

    def __enter__(self) -> "_Unpacked":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._packed.close()


def parts(stream: BinaryIO, enough: Callable[[], bool] = lambda: False, name: str = "log") -> Iterator[tuple[int, str]]:
    """The stretches of a log around everything that looks like a report: number of the first line, text.

    Reads in chunks; holds one stretch and a chunk at a time. Once ``enough`` says so the rest is given as it comes.
    """
    held = bytearray()
    line = 1  # of held[0]
    ended = False
    keep_from: int | None = None  # a stretch has begun at this offset of ``held``
    last = 0  # the end of the last needle of the stretch
    searched = given = 0  # up to where needles were looked for, and text was given out
    first = True
    taken = ended_line = 0  # bytes read, and how many of them up to the end of a line
    while not ended:
        chunk = stream.read(_CHUNK if not first else _WHOLE + 1)
        ended = not chunk
        taken += len(chunk)
        ended_line = taken if b"\n" in chunk else ended_line
        if taken - ended_line > _MOST_WITHOUT_LINE:
            raise InputError(name, "", f"is no text: {_MOST_WITHOUT_LINE:,} bytes without the end of a line")
        if taken > _MOST_BYTES:
            raise InputError(name, "", f"is more than {_MOST_BYTES:,} bytes; give the part that holds the reports")
        held += chunk
        if first:
            while chunk and len(held) <= _WHOLE:
                chunk = stream.read(_WHOLE + 1 - len(held))
                held += chunk
            first = False
            if bytes(held[:2]) in (b"\xff\xfe", b"\xfe\xff"):
                rest = stream.read(_MOST_WIDE + 1)
                if len(rest) > _MOST_WIDE:
                    raise InputError(name, "", f"UTF-16 of more than {_MOST_WIDE:,} bytes; convert it to UTF-8 first")
                held = bytearray(decoded(bytes(held) + rest).encode())
            if len(held) <= _WHOLE:
                if held:
                    yield 1, held.decode("utf-8", "replace")
                return
        if enough():
            cut = len(held) if ended else held.rfind(b"\n") + 1 or (len(held) if len(held) > _LONGEST else 0)
            yield line, held[given:cut].decode("utf-8", "replace")
            del held[:cut]
            given = 0
            continue
        for place in _places(held, max(searched - 64, 0)):
            if keep_from is not None and place - last > _AFTER + _BEFORE:
                given = last + _AFTER
                yield from _pieces(held, line, keep_from, given)
                keep_from = None
            if keep_from is None:
                keep_from = _line_start(held, max(place - _BEFORE, 0))
            last = place
        searched = len(held)
        if keep_from is not None and (ended or searched - last > _AFTER + _BEFORE):
            given = min(last + _AFTER, len(held))
            yield from _pieces(held, line, keep_from, given)
            keep_from = None
        while keep_from is not None and (end := _cut(held, keep_from, searched)) is not None:
            yield _stretch(held, line, keep_from, end)
            given = keep_from = end
        drop = _line_start(held, max(searched - _BEFORE - 64, 0)) if keep_from is None else keep_from
        if drop:
            line += held.count(b"\n", 0, drop)
            del held[:drop]
            searched -= drop
            given = max(given - drop, 0)
            last -= drop
            keep_from = 0 if keep_from is not None else None


def _places(held: bytearray, start: int) -> list[int]:
    found = []
    for needle in _NEEDLES:
        place = held.find(needle, start)
        while place >= 0:
            found.append(place)
            place = held.find(needle, place + len(needle))
    return sorted(found)


def _line_start(held: bytearray, place: int) -> int:
    """Where the line of ``place`` starts; ``place`` itself in a line without end."""
    start = held.rfind(b"\n", max(place - _LONG_LINE, 0), place) + 1 if place else 0
    return start or (0 if place < _LONG_LINE else place)


def _pieces(held: bytearray, line: int, start: int, end: int) -> Iterator[tuple[int, str]]:
    """A stretch, cut where it is too long."""
    while (cut := _cut(held, start, end)) is not None:
        yield _stretch(held, line, start, cut)
        start = cut
    yield _stretch(held, line, start, end)


def _cut(held: bytearray, start: int, end: int) -> int | None:
    """Where a stretch is cut: at the last head within _LONGEST, else at the first one behind, else at a line, since a
    stretch without a head grows as its log does."""
    if end - start <= _LONGEST:
        return None
    place = max(held.rfind(head, start + 1, start + _LONGEST) for head in _HEADS)
    if place > start and _line_start(held, place) > start:
        return _line_start(held, place)
    later = [held.find(head, start + _LONGEST, end) for head in _HEADS]
    later = [each for each in later if each >= 0]
    if later and min(later) - start <= _LONGEST_HEADLESS:
        return _line_start(held, min(later))
    return _line_start(held, start + _LONGEST_HEADLESS) if end - start > _LONGEST_HEADLESS else None


def _stretch(held: bytearray, line: int, start: int, end: int) -> tuple[int, str]:
    # To the end of the line; ``end`` may be the start of one.
    from_ = min(max(end - 1, start), len(held))
    cut = held.find(b"\n", from_, from_ + _LONG_LINE)
    text = held[start : min(from_ + _LONG_LINE, len(held)) if cut < 0 else cut]
    return line + held.count(b"\n", 0, start), text.decode("utf-8", "replace")
