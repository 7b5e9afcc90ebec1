"""Changes to a file: of its bytes, of its numbers and words where it is text."""

import random
import re

NUMBERS = (0, 1, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 63, 1 << 64)
WORDS = (
    b"-1", b"0", b"", b"nan", b"inf", b"1e999", b"(nil)", b"0x", b"0xffffffffffffffff", b"9" * 40, b"9" * 5000,
    b"\x00", b"\x1b[2J", b"\xff\xfe", "\u0669\u202e".encode(), b"[" * 3000, b"{" * 200, b'"', b"'", b"null", b"true",
    b"=", b",", b"\n",
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z_]+|\d+|[^\sA-Za-z_\d]")


def mutated(data: bytes, draw: random.Random, text: bool) -> bytes:
    """``data`` changed in one to four places."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        draw.choice(TEXT if text and draw.random() < 0.7 else BYTES)(out, draw)
    return bytes(out)


def _place(out: bytearray, draw: random.Random) -> int:
    """Half of the places are near an end: headers and footers stand there."""
    if not out:
        return 0
    if draw.random() < 0.5:
        near = draw.randrange(min(len(out), 256))
        return near if draw.random() < 0.5 else len(out) - 1 - near
    return draw.randrange(len(out))


def flip(out: bytearray, draw: random.Random) -> None:
    if out:
        out[_place(out, draw)] ^= 1 << draw.randrange(8)


def byte(out: bytearray, draw: random.Random) -> None:
    if out:
        out[_place(out, draw)] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))


def number(out: bytearray, draw: random.Random) -> None:
    size = draw.choice((2, 4, 8))
    at = _place(out, draw)
    out[at : at + size] = (draw.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def cut(out: bytearray, draw: random.Random) -> None:
    del out[_place(out, draw) :]


def drop(out: bytearray, draw: random.Random) -> None:
    at = _place(out, draw)
    del out[at : at + draw.choice((1, 4, 16, 64, 500))]


def double(out: bytearray, draw: random.Random) -> None:
    at = _place(out, draw)
    out[at:at] = out[at : at + draw.choice((1, 8, 64, 500))]


def noise(out: bytearray, draw: random.Random) -> None:
    at = _place(out, draw)
    out[at:at] = draw.randbytes(draw.choice((1, 3, 16)))


def word(out: bytearray, draw: random.Random) -> None:
    """A word or number of the text becomes another."""
    found = [match.span() for match in _TOKEN.finditer(out)]
    if found:
        begin, end = draw.choice(found)
        other = draw.choice(found)
        out[begin:end] = draw.choice(WORDS) if draw.random() < 0.7 else out[other[0] : other[1]]


def line(out: bytearray, draw: random.Random) -> None:
    """A line is left out, twice there, or in another's place."""
    lines = out.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(3)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(i, lines[j])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    out[:] = b"\n".join(lines)


BYTES = (flip, flip, byte, number, number, cut, drop, double, noise)
TEXT = (word, word, word, line)
