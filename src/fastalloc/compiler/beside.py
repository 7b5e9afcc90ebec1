"""A second process for the first start: it compiles into the cache folder what the first one will need next."""

import atexit
import os
import subprocess
import sys
import threading

from fastalloc.compiler.cache_dir import cache_folder, is_cold, own_folder
from fastalloc.compiler.jit import DISABLE_JIT

ALONE = "FASTALLOC_COMPILE_ALONE"
"""An environment variable: set, no second process is started."""

_once = threading.Lock()  # taken by the first call, and kept


def _is_of_use() -> bool:
    """Whether nothing was compiled yet, and a second process can keep what it compiles and has a CPU for it."""
    try:
        import fcntl  # noqa: F401  (without locks both would compile the same)
    except ImportError:
        return False
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_python = bool(sys.executable) and not getattr(sys, "frozen", False)
    return cpus > 1 and is_python and is_cold() and os.access(own_folder(cache_folder()), os.W_OK)


def compile_beside(code: str) -> None:
    """Run ``code`` in an interpreter beside this one, once, where it is of use; it ends with this process.

    Nothing depends on it: what it has not compiled, or could not, this process compiles when it is needed.
    """
    if DISABLE_JIT or os.environ.get(ALONE) or not _once.acquire(blocking=False) or not _is_of_use():
        return
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]  # the same modules as here
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, env=os.environ | {ALONE: "1"}
        )
    except OSError:
        return
    atexit.register(process.kill)
    threading.Thread(target=process.wait, daemon=True).start()
