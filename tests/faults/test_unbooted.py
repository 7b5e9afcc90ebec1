"""A machine too small for what its kernel and its policy set aside at boot is refused, with what it lacks."""

import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from tests.closed_loop.small import small

IDEAL = {"policy.emergency_caches": "ideal", "policy.emergency_merge": False, "policy.emergency_free": "page"}
SHEAVES = {"policy.allocator": "7.3", "policy.slub_layout": "7.3"}


def machine(pages, settings):
    """A machine of so many pages."""
    zone = {"name": "Normal", "present": pages, "protection": [0], "pcp_high": 0, "pcp_batch": 1}
    zone |= {"min": 4, "low": 5, "high": 6}
    return small("rc8", {"machine.zones": [zone], "machine.min_free_kbytes": 16, "machine.boot_slabs": []} | settings)


@pytest.mark.parametrize(
    ("pages", "settings", "lacks"),
    [
        (200, {"policy.emergency_caches": "v2", "machine.cpus": 64}, "emergency_caches: they get no 64 slabs each"),
        (300, IDEAL | {"policy.emergency_slabs": 100}, "emergency_caches: they get no 100 slabs each"),
        (260, SHEAVES | {"machine.cpus": 64}, "no main sheaf for each CPU"),
        (8, SHEAVES, "no main sheaf for each CPU"),
        (
            60,
            {"machine.boot_slabs": [{"cache": "radix_tree_node", "slabs": 64, "in_use": 200}]},
            r"boot_slabs: the cache of radix_tree_node gets \d+ of 64",
        ),
        (16, SHEAVES, "the mempool bio gets no 2 objects"),
        (8, {}, "the mempool sg gets no 2 objects"),
        (14, {}, "the host gets no 1 commands for its free_list"),
        (60, {"workload.locked_pages": 200}, r"workload.locked_pages: \d+ of 200 can be had"),
        (16, {"host.free_list": 64}, "the host gets no 64 commands"),
    ],
)
def test_what_cannot_be_set_aside_is_named(pages, settings, lacks):
    with pytest.raises(InputError, match=f"machine.zones: too little memory to boot: .*{lacks}"):
        build_lane(machine(pages, settings), 0, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy.emergency_caches": "v2", "machine.cpus": 64},
        IDEAL | {"policy.emergency_slabs": 100},
        SHEAVES | {"machine.cpus": 64},
        {"machine.boot_slabs": [{"cache": "radix_tree_node", "slabs": 64, "in_use": 200}]},
    ],
)
def test_with_enough_memory_all_is_there(settings):
    build_lane(machine(3000, settings), 0, 1)
