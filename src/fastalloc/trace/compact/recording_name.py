"""What a recording is called: RUN, by which the files that lie beside its trace are found and new ones are named."""

import re
from pathlib import Path

_PACKED = (".gz", ".zst", ".zstd")
# What ``fastalloc`` and its recorder call the parts of a recording, and what a name of a trace says of itself.
_PARTS = (
    ".events",
    ".trace",
    ".ftrace",
    ".trace-cmd-report",
    ".perf-script",
    ".fitted",
    ".workload",
    ".slabs",
    ".slabinfo",
    ".slabstate",
    ".summary",
    ".snapshots",
)
_FORMAT = re.compile(r"\.[A-Za-z]\w*")  # a last part such as .12 belongs to the name


def run_of(path: Path) -> str:
    """RUN of a file: its name less how it is packed, its format and which part of a recording it is, one each.
    ``w1-6.12.events.parquet`` is of w1-6.12, ``run.trace.dat.gz`` of run; a folder is called as it is."""
    if path.is_dir():
        return path.resolve().name
    name = path.name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    stem, dot, ending = name.rpartition(".")
    if stem and f".{ending}" not in _PARTS and _FORMAT.fullmatch(dot + ending):
        name = stem
    for part in _PARTS:
        if name.endswith(part) and name != part:
            return name.removesuffix(part)
    return name


def beside(path: Path, what: str) -> Path | None:
    """The side input ``what`` of a trace: RUN.events.parquet has RUN.slabstate.parquet beside it."""
    for suffix in (".parquet", ".csv.gz", ".csv"):
        found = path.with_name(f"{run_of(path)}.{what}{suffix}")
        if found.exists():
            return found
    return None


__all__ = ["beside", "run_of"]
