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
    """Whether nothing was compiled yet, and there are a Python and a CPU for a second process."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus > 1 and bool(sys.executable) and not getattr(sys, "frozen", False) and is_cold()


def compile_beside(code: str) -> None:
    """Run ``code`` in an interpreter beside this one, once, where it is of use; it ends with this process.

    Of several processes that start at a time one does so. Nothing depends on it: what it has not compiled, or could
    not, this process compiles when it is needed.
    """
    if DISABLE_JIT or os.environ.get(ALONE) or not _once.acquire(blocking=False) or not _is_of_use():
        return
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]  # the same modules as here
    try:
        import fcntl

        with open(own_folder(cache_folder()) / "beside.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {ALONE: "1"},
                pass_fds=[lock.fileno()],  # it has the lock as long as it runs
            )
    except (ImportError, OSError):  # a system without such locks, a folder that cannot be written, another has it
        return
    atexit.register(process.kill)
    threading.Thread(target=process.wait, daemon=True).start()
