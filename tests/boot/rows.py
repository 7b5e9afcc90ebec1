"""Rows of results/replay/guests.csv, written by the boots that measured them."""

import csv
import os
from pathlib import Path

from fastalloc.trace.replay.end_readings import AtEnd
from tests.boot.machine import Guest

FIELDS = ("guest", "events", "pages_end", "error", "near", "caches")
WORK = {"mix": "files and forks", "files": "files", "forks": "forks"}
CPUS = {2: "", 4: ", four CPUs"}


def label(guest: Guest, kernel: str) -> str:
    """The guest in words; ``kernel``: the release that it ran."""
    nodes = {1: "", 2: " on two nodes"}[guest.nodes]
    version = ".".join(kernel.split("-")[0].split(".")[:2])
    how = ", ".join(guest.options) or "not shrunk"
    return f"{version}, {WORK[guest.work]}{CPUS[guest.cpus]}{nodes}, {how}"


def row_of(guest: Guest, kernel: str, events: int, found: AtEnd) -> dict[str, object]:
    """What one boot told; ``error`` and ``near`` in percent."""
    figures = (events, found.real_pages, round(100 * found.error, 2), round(100 * found.within_one), found.caches)
    return dict(zip(FIELDS, (label(guest, kernel), *figures), strict=True))


def put(path: Path, row: dict[str, object]) -> None:
    """Write ``row`` into the table at ``path``, in place of the row of the same guest, else behind the others."""
    rows: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    names = [each["guest"] for each in rows]
    at = names.index(row["guest"]) if row["guest"] in names else len(rows)
    rows[at : at + 1] = [row]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def put_where_asked(row: dict[str, object]) -> None:
    """Into the table that the environment variable GUESTS names, if it does."""
    if os.environ.get("GUESTS"):
        put(Path(os.environ["GUESTS"]), row)


__all__ = ["label", "put", "put_where_asked", "row_of"]
