"""A hundred kills and twenty full disks, over all commands that write: nothing torn, nothing lost."""

import os
import sys

import pytest

from tests.faults.kills import KILLS, POINTS, endure


@pytest.mark.slow
def test_kills_and_full_disks():
    may_mount = os.geteuid() == 0 and sys.platform.startswith("linux")
    found = endure(KILLS, POINTS if may_mount else 0, seed=2008)
    assert sum(each["kills"] for each in found["killed"].values()) == KILLS
    assert all(each["at work"] >= each["kills"] // 2 for each in found["killed"].values())
    assert all(each["refused"] for each in found["full disk"].values())
