"""What to say of an input without a memory report: what it is, and which command reads it."""

import re
from os import PathLike
from typing import BinaryIO

from fastalloc.errors import InputError

_IMPORT, _LOG = "`fastalloc machine import` reads it", "take `dmesg` or `journalctl -k`"
_KINDS = (
    (r"^\s*Node \d+, zone\s+\w+[^\n]*\n\s*(?:per-node stats|pages free)", "a zoneinfo", _IMPORT),
    (r"slabinfo - version|: tunables\s+\d+\s+\d+\s+\d+ : slabdata", "a slabinfo", "`fastalloc caches` reads it"),
    (r"^\s*Node \d+, zone\s+\w+(?:\s+\d+){4,}\s*$", "a buddyinfo", f"it has no marks: {_LOG}"),
    (r"^MemTotal:\s+\d+ kB", "a meminfo", f"{_IMPORT} with the zoneinfo beside it"),
    (
        r"\b(?:kmalloc|kfree|kmem_cache_alloc|kmem_cache_free|kmem:\w+)(?:_node)?: ",
        "a kmem trace",
        "see `fastalloc trace`",
    ),
    (r"Attaching \d+ probe|^@\w*\[", "bpftrace output", f"it holds no report: {_LOG}"),
)
_EXPECTED = (
    "no memory report: expected a line such as 'X: page allocation failure: order:0, mode:0x..', 'X invoked "
    "oom-killer: gfp_mask=0x..', 'SLUB: Unable to allocate memory' or a Mem-Info block, as `dmesg` prints them"
)
_SAMPLE = 64 << 10


def no_report(source: str | PathLike[str] | BinaryIO) -> InputError:
    """The error for an input in which nothing was found."""
    name, sample = _sample(source)
    for pattern, kind, instead in _KINDS:
        if re.search(pattern, sample, re.MULTILINE):
            return InputError(name, "", f"no memory report: this looks like {kind}; {instead}")
    return InputError(name, "", _EXPECTED)


def _sample(source: str | PathLike[str] | BinaryIO) -> tuple[str, str]:
    from fastalloc.explain.parts import open_log

    if source == "-" or not isinstance(source, str | PathLike):
        return "stdin" if source == "-" else str(getattr(source, "name", "stream")), ""  # read already
    name, stream = open_log(source)
    with stream:
        return name, stream.read(_SAMPLE).decode("utf-8", "replace")
