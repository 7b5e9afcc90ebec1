"""The zones of a lane: those of the machine, with the nodes joined and the pages left out that nobody may take."""

from typing import NamedTuple

from fastalloc.linux.gfp import MAX_ORDER
from fastalloc.scenario.machine import Machine

MIGRATE_TYPES = 5  # of 2.6.25; of no fewer pageblocks is mobility heeded


class LaneZone(NamedTuple):
    """A zone of a lane, pages: the zones of one name of all nodes together."""

    name: str
    frames: int  # that it can hand out
    min: int
    low: int
    high: int
    protection: tuple[int, ...]  # by zone of the lane
    pcp_high: int  # of each CPU
    pcp_batch: int
    present: int  # also those that the kernel took for good


def lane_zones(machine: Machine) -> list[LaneZone]:
    """Lowest first. The nodes' zones of one name are one: sizes, marks and reserves add up, and a CPU has one list.

    CMA pages and blocks kept for requests of higher order are left out: a request that may not take them sees the same
    free pages against the same marks [__zone_watermark_unusable_free]. Where the machine tells what was free at boot,
    the rest was taken by the kernel for good.
    """
    joined = []
    classes = machine.classes
    for name in classes:
        zones = [zone for zone in machine.zones if zone.name == name]
        usable = sum(zone.present - zone.cma - zone.highatomic for zone in zones)
        largest = max(zones, key=lambda zone: zone.present)
        joined.append(
            LaneZone(
                name,
                machine.free_pages.get(name, usable),
                sum(zone.min for zone in zones),
                sum(zone.low for zone in zones),
                sum(zone.high for zone in zones),
                tuple(sum(zone.protection[j] for zone in zones) for j in range(len(classes))),
                largest.pcp_high,
                largest.pcp_batch,
                sum(zone.present for zone in zones),
            )
        )
    return joined


def pageblock_order(machine: Machine) -> int:
    """Order of the blocks by which allocations of different mobility are kept apart; 0: the machine is too small
    [pageblock_order, page_group_by_mobility_disabled of build_all_zonelists]."""
    order = 9 if machine.huge_pages and machine.page_kb == 4 else MAX_ORDER - 1
    frames = sum(zone.frames for zone in lane_zones(machine))
    return order if frames >= MIGRATE_TYPES << order else 0
