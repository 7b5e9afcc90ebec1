"""How many threads are asked for: one rule for every command and call."""

import os

from fastalloc.errors import InputError

MOST_THREADS = 4096


def threads_asked(threads: int) -> int:
    """``threads`` as it is.

    Raises:
        InputError: below 0, or more than MOST_THREADS.
    """
    if not 0 <= threads <= MOST_THREADS:
        raise InputError("--threads", f"{threads:,}", f"must be within 0 (one a CPU) and {MOST_THREADS:,}")
    return threads


def threads_of(threads: int) -> int:
    """``threads``, or one for each CPU that this process may use where it is 0.

    Raises:
        InputError: as of ``threads_asked``.
    """
    return threads_asked(threads) or len(os.sched_getaffinity(0))
