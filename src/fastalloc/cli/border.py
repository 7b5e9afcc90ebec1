"""Where a command ends: every way to fail gives a line and an exit code of its own, and no foreign byte moves a cursor.

====  =====================================================================================
code  meaning
====  =====================================================================================
0     done
1     done, and what was asked does not hold (a check is off, a verdict rests on too little)
2     input that cannot be used, an output that cannot be written, memory that there is not
3     a lane failed: its policy raised, or an invariant broke
70    a fault of fastalloc: a crash file tells what is needed to report it
130   stopped by Ctrl-C (143: by SIGTERM); what was finished is kept
====  =====================================================================================
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from fastalloc.errors import UNPRINTABLE, InputError, LaneError, printable, shortened, told
from fastalloc.width import columns, fitted

CRASHED = 70  # EX_SOFTWARE [sysexits.h]
_CONTROLS = re.compile(f"(?![\t\n]){UNPRINTABLE.pattern}")
LEAST_BYTES = 3 << 29  # of address space: Arrow, Polars and LLVM map most of it
LIBRARIES = ("numba", "numpy", "polars", "pyarrow", "pydantic")


class Escaping:
    """A text stream through which no control character and no mark that hides or reorders text passes, but tab and line
    feed; ``plain`` is the stream itself."""

    def __init__(self, plain: TextIO) -> None:
        self.plain = plain

    def write(self, text: str) -> int:
        """Writes ``text``, what may not pass escaped."""
        return self.plain.write(_CONTROLS.sub(lambda found: printable(found[0]), text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """stdout and stderr escape control characters and what their encoding lacks; one that is closed takes all."""
    before = sys.stdout, sys.stderr
    with suppress(OSError), open(os.devnull, "w", encoding="utf-8") as nothing:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:
                stream = nothing
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, Escaping(stream))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def ended(command: Callable[[], object]) -> int:
    """The exit code of ``command``; what went wrong is told in a line on stderr."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        return _ended(command)
    finally:
        _flush()


def _ended(command: Callable[[], object]) -> int:
    if sys.flags.optimize > 1:
        return _say("python -OO: help and charts are made of the docstrings that it takes away; -O keeps them", 2)
    limit = _address_space()
    if limit < LEAST_BYTES:
        line = f"ulimit -v: {limit >> 20:,} MiB of address space; fastalloc needs {LEAST_BYTES >> 20:,} MiB to start"
        return _say(line, 2)
    if limit < sys.maxsize:
        _map_less()
    try:
        command()
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except InputError as error:
        return _say(str(error), 2)
    except LaneError as error:
        return _say(str(error), 3)
    except MemoryError:
        return _say("fastalloc: more memory is needed than there is; see --memory, or run fewer threads", 2)
    except BrokenPipeError:
        return 1  # whoever read the output has enough of it
    except OSError as error:
        if error.filename is None and error.errno is not None:  # no file was named: it is an output
            return _say(f"fastalloc: output cannot be written: {told(error)}", 2)
        return _crash(error) if error.filename is None else _say(str(InputError(error.filename, "", told(error))), 2)
    except BaseException as error:
        return _crash(error)
    return 0


def _map_less() -> None:
    """Keep Arrow's allocator and glibc from mapping far more than they use: 1 GiB, and 64 MiB a thread."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    import ctypes

    with suppress(OSError, AttributeError):  # another libc has no arenas
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX [malloc.h]


def _address_space() -> int:
    """Bytes that the process may map."""
    try:
        import resource
    except ImportError:  # no limits there
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _say(line: str, code: int) -> int:
    """Tells of a fault; a pipe or a file, which programs read, gets it on one line."""
    with suppress(OSError, ValueError):
        width = columns(sys.stderr)
        print(line if width is None else fitted(line, width), file=sys.stderr, flush=True)
    return code


def _flush() -> None:
    """Flushes the streams; one that does not take it is given up, so that Python does not try again at its end."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            setattr(sys, name, Escaping(open(os.devnull, "w", encoding="utf-8")))  # noqa: SIM115


def _crash(error: BaseException) -> int:
    """Keeps what is needed to report a fault, and says where."""
    import platform
    import shlex
    import tempfile
    import time
    import traceback
    from pathlib import Path

    text = "\n".join(
        [
            shlex.join(["fastalloc", *sys.argv[1:]]),
            f"fastalloc {_version('fastalloc')}, Python {sys.version}, {platform.platform()}",
            ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
            f"in {os.getcwd()}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    name = f"fastalloc-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    where = "; its crash file could not be written"
    for folder in (Path(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            with open(folder / name, "x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            where = f"; please report it with {folder / name}"
            break
    return _say(f"fastalloc: a fault of its own: {printable(shortened(told(error)))}{where}", CRASHED)


def _version(name: str) -> str:
    from importlib.metadata import version

    try:
        return version(name)
    except Exception:
        return "unknown"
