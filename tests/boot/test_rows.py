"""The table of guests: a boot writes its own row and leaves the others."""

import csv
from pathlib import Path

from fastalloc.trace.replay.end_readings import AtEnd
from tests.boot.rows import FIELDS, label, put, row_of
from tests.boot.test_boot import GUESTS

TABLE = Path(__file__).parents[2] / "results" / "replay" / "guests.csv"
RELEASES = {"6.1": "6.1.0-41-amd64", "6.12": "6.12.57+deb13-amd64", "7": "7.2.12-1~bpo13+1-amd64"}


def test_every_row_of_the_results_is_of_a_guest_that_is_booted():
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["guest"] for row in rows) == sorted(label(guest, RELEASES[guest.kernel]) for guest in GUESTS)
    assert tuple(rows[0]) == FIELDS


def test_a_row_replaces_its_own(tmp_path):
    table = tmp_path / "guests.csv"
    table.write_bytes(TABLE.read_bytes())
    before = table.read_text().splitlines()
    found = AtEnd(1000, 1016, 10, 0.899, [])
    put(table, row_of(GUESTS[0], RELEASES["6.1"], 90_000, found))
    after = table.read_text().splitlines()
    assert after[1] == '"6.1, files and forks, --shrink",90000,1000,1.6,90,10'
    assert after[:1] + after[2:] == before[:1] + before[2:]
    put(table, row_of(GUESTS[0], "6.6.1", 90_000, found))
    assert table.read_text().splitlines() == [*after, '"6.6, files and forks, --shrink",90000,1000,1.6,90,10']
