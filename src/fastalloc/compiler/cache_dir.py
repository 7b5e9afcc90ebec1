"""Where compiled kernels are kept: a folder for each state of the sources, Numba, Python and CPU.

Numba does not notice a change in a function that a cached one calls from another file, so the folder's name holds a
digest of everything that the machine code depends on.
"""

import hashlib
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError
from fastalloc.width import say

PACKAGE = Path(__file__).parents[1]
OF_ONES_OWN = "of_ones_own"  # where that of files of one's own is kept
# Rooms whose sources decide what compiled code computes.
ROOMS = ("compiler", "kernels", "linux", "trace/order")

_DECORATING = threading.RLock()

SHAPES_CODE = (  # environment variables
    "FASTALLOC_UNPATCHED",
    "NUMBA_BOUNDSCHECK",
    "NUMBA_DEBUGINFO",
    "NUMBA_OPT",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_SLP_VECTORIZE",
)


def kernel_sources(folder: Path = PACKAGE) -> list[Path]:
    """The source files below the package that decide what a kernel computes, sorted by path."""
    found = [path for room in ROOMS for path in (folder / room).rglob("*.py")] + [folder / "policy.py"]
    return sorted(path for path in found if path.name not in ("__init__.py", "beside.py", "cache_dir.py"))


def sources_digest(folder: Path = PACKAGE) -> str:
    """SHA-256 over names and contents of the kernel sources, hexadecimal."""
    digest = hashlib.sha256()
    for path in kernel_sources(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def cache_digest(folder: Path = PACKAGE) -> str:
    """What the compiled code depends on, as 16 hexadecimal digits."""
    parts = (
        sources_digest(folder),
        version("numba"),
        version("llvmlite"),
        version("numpy"),
        sys.version,
        platform.machine(),
        _cpu(),
        *(f"{name}={value}" for name, value in sorted(os.environ.items()) if name in SHAPES_CODE),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The folder in use: of ``NUMBA_CACHE_DIR`` where it is set, else of the user's cache folder."""
    told = os.environ.get("NUMBA_CACHE_DIR")
    parent = Path(told) if told else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastalloc"
    return parent / cache_digest()


@cache
def own_folder(folder: Path) -> Path:
    """``folder``, made with the rights 0700 where it is not there and can be.

    What lies there is unpickled and run: InputError where it is another user's, or others may write there.
    """
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        found = folder.stat()
    except OSError:
        return folder
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise InputError(folder, "", f"holds compiled code and belongs to user {found.st_uid}; remove it")
    if found.st_mode & 0o022:
        raise InputError(folder, "", "holds compiled code and others may write there; remove it")
    return folder


@contextmanager
def used() -> Iterator[None]:
    """Functions that are decorated meanwhile are kept in the folder; those of others are kept where they were."""
    import numba

    config: Any = numba.config
    with _DECORATING:  # or one thread would take the other's setting for the user's
        theirs = config.CACHE_DIR
        config.CACHE_DIR = str(own_folder(cache_folder()))
        try:
            yield
        finally:
            config.CACHE_DIR = theirs


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """One process at a time: whoever waited for another finds what that one compiled.

    Where a lock cannot be had (a system or file system without), several may compile the same.
    """
    try:
        import fcntl

        folder = own_folder(cache_folder())
        file = open(folder / f"{name}.lock", "w")  # noqa: SIM115
    except (ImportError, OSError):
        yield
        return
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_cold() -> bool:
    """Whether no kernel was compiled into the folder yet."""
    return all(path.parent.name.startswith(OF_ONES_OWN) for path in cache_folder().rglob("*.nbi"))


def announce_compiling() -> None:
    """Tells on stderr that the first run compiles, where it does."""
    if is_cold():
        say(
            "compiling the simulation for this CPU, half a minute to a minute, once per version "
            f"(kept in {cache_folder()}) ...",
            err=True,
        )


def _cpu() -> str:
    """Model and features, as far as they can be had without asking LLVM."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
    first = {name.strip(): value for name, _, value in (line.partition(":") for line in reversed(lines))}
    return "\0".join(first.get(name, "") for name in wanted)
