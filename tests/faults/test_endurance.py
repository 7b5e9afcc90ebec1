"""The table of what was tried to break it is made from results/, and a little of the soak runs."""

from docs import endurance
from tests.closed_loop.soak import TOLD, soak


def test_the_table_is_that_of_the_results():
    assert endurance.PAGE.read_text(encoding="utf-8") == endurance.page()


def test_a_little_soak(monkeypatch):
    monkeypatch.setattr("tests.closed_loop.soak.LOADS", {"few": ("fix", {}, 2)})
    sums = soak(1, seed=1)
    assert set(sums["few"]) == {*TOLD, "lanes", "jiffies_checked"}
    assert sums["few"]["cpu_ticks"] > 0
