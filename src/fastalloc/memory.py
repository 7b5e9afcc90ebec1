"""How much memory this machine has to spare, and how much of it may be taken before anything is."""

import os
import re
from pathlib import Path

from fastalloc.errors import InputError

SHARE = 0.5  # of what the machine has to spare
MEMORY = "FASTALLOC_MEMORY"  # bytes, or with a K, M, G or T
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bytes(text: str, what: str) -> int:
    """``512M`` or ``4G`` in bytes.

    Raises:
        InputError: it is no size.
    """
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*", text)
    size = round(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size <= 0:
        raise InputError(what, text, "must be a size such as 512M or 4G")
    return size


def memory_limit() -> int:
    """Bytes that may be taken: FASTALLOC_MEMORY, else SHARE of what this machine has to spare."""
    told = os.environ.get(MEMORY)
    return parse_bytes(told, MEMORY) if told else round(SHARE * _spare_bytes())


def _spare_bytes() -> int:
    import resource

    known = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    known = [limit for limit in known if limit != resource.RLIM_INFINITY]
    for file, pattern in (
        ("/proc/meminfo", r"MemAvailable:\s+(\d+) kB"),
        ("/sys/fs/cgroup/memory.max", r"^(\d+)$"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", r"^(\d+)$"),
    ):
        try:
            found = re.search(pattern, Path(file).read_text(encoding="ascii"))
        except OSError:
            continue
        if found:
            known.append(int(found[1]) << (10 if "kB" in pattern else 0))
    return min(known, default=1 << 33)


def size_in_words(size: int) -> str:
    """``48.0 GiB``, ``512 MiB``."""
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MiB"


__all__ = ["MEMORY", "SHARE", "memory_limit", "parse_bytes", "size_in_words"]
