"""How large a reserve must be: the share of GFP_ATOMIC requests refused against what is kept free for them.

Two answers stand side by side. The closed form asks how many pages lie between the mark at which kswapd wakes and the
caller's own; a burst that finds memory at the first and no reclaim on its way gets these pages and no more. The
simulated answer is searched for on lanes of the scenario, with reclaim, per-CPU lists and everything else at work.
"""

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np

from fastalloc.batch import run_lanes
from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import command_bytes
from fastalloc.batch.pressed import MARKS_IN_PLAY, MOST_PAGES, pressed
from fastalloc.batch.size import refuse_too_large
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import ROLE
from fastalloc.scenario import Machine, Scenario
from fastalloc.scenario.machine import NOT_THE_KERNELS, own_factor, own_kbytes
from fastalloc.scenario.models import Burst
from fastalloc.sweep.share import interval, lanes_without_a_refusal, share_of_any_lanes
from fastalloc.threads import threads_of

# What may be searched along: the field of the scenario, the metric that counts what is refused, and those that add up
# to what is asked for. A mempool and the free_list are asked again after a refusal, so they are asked as often as they
# refused and as they, or the allocator before them, gave.
FIELDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "min_free_kbytes": ("machine.min_free_kbytes", "burst_refused", ("burst_requests",)),
    "watermark_scale_factor": ("machine.watermark_scale_factor", "burst_refused", ("burst_requests",)),
    "bio_pool": ("policy.bio_pool", "bio_waits", ("bio_waits", "bios")),
    "free_list": ("host.free_list", "free_list_empty", ("free_list_empty", "commands")),
}
BURSTS = ("min_free_kbytes", "watermark_scale_factor")  # what is refused are requests of bursts
MOST = {"min_free_kbytes": 1 << 30, "watermark_scale_factor": 3000, "bio_pool": 1024, "free_list": 64}
MOST_LANES = 256  # at a value of a search, of bursts
CONFIRM = 4  # times as many other lanes show an end of bursts
SURE = 64  # lanes from which the interval of bursts held on every set-up tried [results/reserve/coverage.csv]
CLOSE = 1.03  # how near the two ends of the frontier come


class Refused(NamedTuple):
    """What was refused on some lanes, the interval of the true share at 95 %, and the one of lanes of any kind."""

    value: int  # of the field
    refused: int
    requests: int
    share: float
    low: float
    high: float
    lanes: int
    any_low: float = 0.0
    any_high: float = 1.0


class Reserve(NamedTuple):
    """Where the share falls below the limit."""

    key: str
    limit: float
    too_little: Refused | None  # the largest value found whose share is above the limit
    enough: Refused | None  # the smallest found whose share is below it
    tried: list[Refused]  # in order of their values


def gap_pages(machine: Machine, kswapd_behind: bool = False) -> int:
    """Pages between the marks at which kswapd wakes and those of GFP_ATOMIC, over the zones that serve the kernel.

    A request fails at low in every zone before kswapd is woken; GFP_ATOMIC then goes to half of min, and a quarter of
    that less [zone_watermark_ok: ALLOC_HIGH, ALLOC_HARDER; 6.3+ ALLOC_MIN_RESERVE, ALLOC_NON_BLOCK: the same 3/8].
    Where kswapd falls behind, tasks take all down to min before they reclaim themselves, and a burst begins there.
    """
    total = 0
    for zone in lane_zones(machine):
        if zone.name not in NOT_THE_KERNELS:
            mark = zone.min - zone.min // 2
            total += (zone.min if kswapd_behind else zone.low) - (mark - mark // 4)
    return total


def burst_pages(scenario: Scenario) -> int:
    """The pages that one burst of each entry asks for at once; objects by the slabs of their kmalloc size."""
    pages = 0
    for burst in scenario.workload.bursts:
        size = 1 << (burst.object_bytes - 1).bit_length()
        page = scenario.machine.page_kb * 1024
        pages += burst.pages or ceil(burst.objects / max(1, page // size)) * max(1, size // page)
    return pages


def closed_form(scenario: Scenario, key: str, limit: float, kswapd_behind: bool = False) -> int:
    """The smallest value of ``min_free_kbytes`` or ``watermark_scale_factor`` whose gap holds all but ``limit`` of a
    burst.

    Raises:
        InputError: no value does, or there is no burst.
    """
    field, *_ = FIELDS[key]
    wanted = ceil(burst_pages(scenario) * (1 - limit))
    if wanted == 0:
        raise InputError(scenario.name, "workload.bursts", "none; the closed form is of a burst")
    low, high = 0, 1
    while gap_pages(_with(scenario, field, high).machine, kswapd_behind) < wanted:
        low, high = high, high * 2
        if high > MOST[key]:
            raise InputError(scenario.name, key, f"no value up to {MOST[key]:,} keeps {wanted:,} pages for a burst")
    while high - low > 1:
        middle = (low + high) // 2
        if gap_pages(_with(scenario, field, middle).machine, kswapd_behind) < wanted:
            low = middle
        else:
            high = middle
    return high


def in_play(machine: Machine, bursts: Sequence[Burst], key: str) -> int:
    """Pages of a zone that must take part in a search along ``key``: four high marks at twice the closed form."""
    scenario, _ = pressed(machine, bursts)
    if key not in BURSTS:
        return MOST_PAGES
    value = min(MOST[key], 2 * closed_form(scenario, key, 0.0))
    try:
        highest = max(zone.high for zone in lane_zones(_with(scenario, FIELDS[key][0], value).machine))
    except InputError:  # more than the machine has
        return MOST_PAGES
    return max(MOST_PAGES, MARKS_IN_PLAY * highest)


def refused_at(scenario: Scenario, key: str, value: int, lanes: int, threads: int = 0, first: int = 0) -> Refused:
    """Runs lanes of the scenario (of one variant), from number ``first`` on, with a value of the field and counts what
    is refused."""
    field, hit, asked = FIELDS[key]
    own = _with(scenario, field, value)
    zones = [zone for zone in lane_zones(own.machine) if zone.name not in NOT_THE_KERNELS]
    marks, frames = sum(zone.high for zone in zones), sum(zone.frames for zone in zones)
    if key in BURSTS and 2 * marks > frames:
        told = f"{value:,} puts the high marks at {marks:,} pages, and {frames:,} take part; no machine runs so"
        raise InputError(scenario.name, key, told)
    refuse_too_large([own], min(threads_of(threads), lanes))
    results = list(run_lanes(own, range(first, first + lanes), seed=scenario.run.seed, threads=threads))
    counts = [dict(zip(METRIC.names, map(int, result.metrics), strict=True)) for result in results]
    rows = np.array([[count[hit], sum(count[name] for name in asked)] for count in counts])
    groups = [(count["bursts_refused"], count["bursts"]) for count in counts] if key in BURSTS else None
    of_lanes, asked_of = rows[:, 0].tolist(), rows[:, 1].tolist()
    refused, requests = sum(of_lanes), sum(asked_of)
    share = refused / requests if requests else 0.0
    ends = interval(of_lanes, asked_of, groups)
    any_ends = ends if groups is None or requests == 0 else share_of_any_lanes(of_lanes, asked_of)
    return Refused(value, refused, requests, share, *ends, lanes, *any_ends)


def reserve(
    scenario: Scenario,
    key: str,
    limit: float,
    *,
    lanes: int = 16,
    most_lanes: int | None = None,
    start: int | None = None,
    threads: int = 0,
    tell: Callable[[Refused], None] | None = None,
) -> Reserve:
    """Searches for the smallest value of a field at which the share that is refused falls below ``limit``.

    A value is decided where the whole interval of its share lies on one side of the limit; lanes are doubled up to
    ``most_lanes`` until it does: 256, or for a pool four times what :func:`lanes_without_a_refusal` asks for. One that
    stays undecided ends the search on its side. What was chosen because it came out well is told too well by the lanes
    that chose it, so both ends are run once more on as many others (of bursts four times as many and 64 at least, so
    that a rarer kind of lane is among them): theirs are the intervals given, and an end that they do not confirm gives
    way to the next value outwards. Where ``most_lanes`` allows no 64, the interval of bursts is the one that holds for
    lanes of any kind.

    Args:
        scenario: of one variant.
        key: of ``FIELDS``.
        start: where to begin; the closed form, or the scenario's own value.
    """
    if key not in FIELDS:
        raise InputError("--of", key, f"is none of {', '.join(FIELDS)}")
    tried: dict[int, Refused] = {}
    if most_lanes is None:
        most_lanes = max(lanes, MOST_LANES if key in BURSTS else 4 * lanes_without_a_refusal(limit))
    lanes = min(lanes, most_lanes)  # those that confirm an end are numbered from there on

    def look(value: int) -> str:
        if value not in tried:
            count = lanes
            found = refused_at(scenario, key, value, count, threads)
            while found.low <= limit <= found.high and count < most_lanes:
                count = min(2 * count, most_lanes)
                found = refused_at(scenario, key, value, count, threads)
            tried[value] = found
            if tell is not None:
                tell(found)
        found = tried[value]
        return "enough" if found.high < limit else "too little" if found.low > limit else "undecided"

    value = max(1, start or own_value(scenario, key))
    verdict = look(value)
    while verdict != "enough" and tried[value].share > limit and value < MOST[key]:
        value = min(MOST[key], ceil(value * 1.5))
        try:
            verdict = look(value)
        except InputError:  # more than the machine has
            break
    while verdict == "enough" and value > 1:
        value = value * 2 // 3
        verdict = look(value)
    little = max((v for v, found in tried.items() if found.low > limit), default=None)
    enough = min((v for v, found in tried.items() if found.high < limit), default=None)
    while little is not None and enough is not None and enough > max(little + 1, ceil(little * CLOSE)):
        middle = max(little + 1, round(sqrt(little * enough)))
        verdict = look(middle)
        if verdict == "undecided":
            break
        little, enough = (middle, enough) if verdict == "too little" else (little, middle)
    ends = {
        "too little": sorted((v for v, found in tried.items() if found.low > limit), reverse=True),
        "enough": sorted(v for v, found in tried.items() if found.high < limit),
    }
    shown: dict[str, Refused | None] = {}
    for side, values in ends.items():
        shown[side] = None
        for value in values:
            count = tried[value].lanes
            if key in BURSTS:
                count = min(max(CONFIRM * count, SURE), most_lanes)
            again = refused_at(scenario, key, value, count, threads, first=most_lanes)
            again = stated(again, key)
            if tell is not None:
                tell(again)
            if again.high < limit if side == "enough" else again.low > limit:
                shown[side] = again
                break
    return Reserve(key, limit, shown["too little"], shown["enough"], [tried[value] for value in sorted(tried)])


def stated(found: Refused, key: str) -> Refused:
    """With the interval that is told: of bursts on fewer lanes than SURE, the one of lanes of any kind."""
    if key in BURSTS and found.lanes < SURE:
        return found._replace(low=found.any_low, high=found.any_high)
    return found


def own_value(scenario: Scenario, key: str) -> int:
    """What the scenario itself has; of the marks what is set, was told, or what they show."""
    if key in BURSTS:
        return (own_kbytes if key == "min_free_kbytes" else own_factor)(scenario.machine)
    return scenario.policy.bio_pool if key == "bio_pool" else scenario.host.free_list


def kept_back(scenario: Scenario, key: str, value: int) -> float:
    """kB more than now that are kept back: what stays free in the kernel's zones while kswapd sleeps, up to the high
    marks; or elements of a pool that lie in it while nothing is short."""
    field, *_ = FIELDS[key]
    if key in BURSTS:
        after, before = _with(scenario, field, value).machine, scenario.machine
        return sum(a.high - b.high for a, b in zip(after.zones, before.zones, strict=True)) * before.page_kb
    layout = build_layout(scenario)
    if key == "bio_pool":
        each = sum(layout.slot_bytes(layout.roles[role]) for role in (ROLE.bio, ROLE.biovec))
    else:
        each = command_bytes(scenario.policy, layout, layout.roles[ROLE.sense])
    return (value - own_value(scenario, key)) * each / 1024


def _with(scenario: Scenario, field: str, value: int) -> Scenario:
    return scenario.with_settings({field: value}, "--of")
