"""Bad input, said in one line; and the one door through which the errors of libraries leave a reader."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 300  # characters of a value, a path or a place in a message: one from a file may have millions
LONGEST_MESSAGE = 1500  # of the message itself, which may list what there is
MOST_FAULTS = 20  # of one input that are told
# Controls of ASCII and Latin-1, line separators, marks that reorder or hide what stands around them, half characters.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: object) -> str:
    """``text`` on one line, each character that is no mark on paper written as ``\\x1b`` or ``\\u202e``."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def printable_lines(text: object) -> str:
    """The same, each line of ``text`` by itself."""
    return "\n".join(map(printable, str(text).split("\n")))


def shortened(text: str, longest: int = LONGEST) -> str:
    """``text``, its middle left out where it is longer than ``longest``."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 60]} ... ({len(text):,} characters) ... {text[-20:]}"


class InputError(ValueError):
    """Something the user gave cannot be used.

    Args:
        path: the file (or preset, or option) that holds it.
        where: the line, field or section inside it; empty when the whole of it is meant.
        message: what is wrong.
        more: further faults of the same input; ``str()`` gives each its own line.
    """

    def __init__(self, path: object, where: str, message: str, more: Sequence["InputError"] = ()) -> None:
        super().__init__(path, where, message)
        self.path = str(path)
        self.where = where
        self.message = message
        self.more = tuple(more)

    def each(self) -> list["InputError"]:
        """This fault alone, and the further ones."""
        return [InputError(self.path, self.where, self.message), *self.more]

    def __str__(self) -> str:
        given = ((self.path, LONGEST), (self.where, LONGEST), (self.message, LONGEST_MESSAGE))
        parts = (shortened(" ".join(part.split()), longest) for part, longest in given if part)
        lines = [": ".join(map(printable, parts)), *map(str, self.more[:MOST_FAULTS])]
        if len(self.more) > MOST_FAULTS:
            lines.append(f"... and {len(self.more) - MOST_FAULTS:,} more")
        return "\n".join(lines)


class LaneError(RuntimeError):
    """A lane ended without a result: its policy raised, an invariant broke, or its clock stood still.

    Args:
        message: which lane, when, and what went wrong.
        variant: of the lane, and its number; empty and -1 where there is no lane yet.

    ``again``: the command that runs the lane again, where it is known; ``point``: of a sweep, -1 none.
    """

    def __init__(self, message: str, variant: str = "", lane: int = -1) -> None:
        super().__init__(message, variant, lane)
        self.message, self.variant, self.lane = message, variant, lane
        self.again = ""
        self.point = -1

    def __str__(self) -> str:
        again = f"; again with: {self.again}" if self.again else ""
        return printable(" ".join(self.message.split())) + printable(again)


def told(error: BaseException) -> str:
    """An error of Python or of a library in a few words."""
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    return ": ".join(part for part in (type(error).__name__, text.splitlines()[0] if text else "") if part)


@contextmanager
def reading(path: object, where: str = "", what: str = "cannot be read") -> Iterator[None]:
    """The one door for errors of a reader: whatever its libraries raise inside becomes InputError of ``path``.

    A panic of a Rust library is no ``Exception``, so everything is caught but what ends a program or a generator.
    """
    try:
        yield
    except (InputError, LaneError, BrokenPipeError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(path, where, f"{what}: {told(error)}") from error


def together(faults: Sequence[InputError]) -> InputError:
    """Several errors as one with a line for each."""
    first, *others = (each for fault in faults for each in fault.each())
    return InputError(first.path, first.where, first.message, others)


@contextmanager
def noted(faults: list[InputError]) -> Iterator[None]:
    """A fault goes into ``faults``, so that those of what follows are told with it."""
    try:
        yield
    except InputError as error:
        faults.append(error)


def reader(what: str = "cannot be read") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose first argument names what it reads: ``reading`` stands around it."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def read(*args: P.args, **kwargs: P.kwargs) -> R:
            with reading(args[0] if args else next(iter(kwargs.values())), "", what):
                return function(*args, **kwargs)

        return read

    return decorate


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Which of ``known`` a misspelt ``word`` is most like: in letters of any case, or as the begin of one."""
    from difflib import get_close_matches

    names = {name.lower(): name for name in reversed(list(known))}
    near = get_close_matches(word.lower(), names, 1, 0.6)
    if not near and len(word) > 1:
        near = [name for name in names if name.startswith(word.lower())][-1:]
    return names[near[0]] if near else None


def meant(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'fix'?)`` where ``word`` looks like one of ``known``, else nothing."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near else ""


def in_words(message: str) -> str:
    """What pydantic says of a value, without what it says of itself."""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    message = re.sub(r"^String should", "should", message)
    message = re.sub(r"^must be a valid dictionary.*", "must be a table", message)
    message = message.replace("must be a valid list", "must be a list")
    message = re.sub(
        r"^(?:List|Dictionary) should have at least (\d+) items? after validation, not \d+",
        lambda found: f"must have at least {'one entry' if found[1] == '1' else found[1] + ' entries'}",
        message,
    )
    message = re.sub(
        r"^(?:List|Dictionary) should have at most (\d+) items? after validation, not (\d+|more)",
        lambda found: f"must have at most {int(found[1]):,} entries",
        message,
    )
    return re.sub(r", unable to (parse|interpret) .*|, got a number with a fractional part", "", message)


def shown(value: object) -> str:
    """``repr`` of a value in a message, whatever it is: an integer may have more digits than Python writes."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
