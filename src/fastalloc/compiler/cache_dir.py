"""Where compiled kernels are kept: a folder for each state of the sources, Numba, Python and CPU.

Numba does not notice a change in a function that a cached one calls from another file, so the folder's name holds a
digest of everything that the machine code depends on. Importing this module sets the folder; it comes before numba.
"""

import hashlib
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Rooms whose sources decide what compiled code computes.
ROOMS = ("compiler", "kernels", "linux", "trace/order")


def kernel_sources(folder: Path = PACKAGE) -> list[Path]:
    """The source files below the package that decide what a kernel computes, sorted by path."""
    found = (path for room in ROOMS for path in (folder / room).rglob("*.py"))
    return sorted(path for path in found if path.name not in ("__init__.py", "cache_dir.py"))


def sources_digest(folder: Path = PACKAGE) -> str:
    """SHA-256 over names and contents of the kernel sources, hexadecimal."""
    digest = hashlib.sha256()
    for path in kernel_sources(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


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
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """The folder in use: ``NUMBA_CACHE_DIR`` where it is set, else one of the user's cache folder."""
    told = os.environ.get("NUMBA_CACHE_DIR")
    if told:
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastalloc" / cache_digest()


def is_cold() -> bool:
    """Whether no kernel was compiled into the folder yet."""
    return not any(cache_folder().rglob("*.nbi"))


def announce_compiling() -> None:
    """Tells on stderr that the first run compiles, where it does."""
    if is_cold():
        print("compiling kernels, once per version ...", file=sys.stderr, flush=True)


def _cpu() -> str:
    """Model and features, as far as they can be had without asking LLVM."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
    first = {name.strip(): value for name, _, value in (line.partition(":") for line in reversed(lines))}
    return "\0".join(first.get(name, "") for name in wanted)


def _use() -> None:
    folder = str(cache_folder())
    os.environ["NUMBA_CACHE_DIR"] = folder
    if "numba" in sys.modules:  # it read the variable when it was imported
        sys.modules["numba"].config.CACHE_DIR = folder


_use()
