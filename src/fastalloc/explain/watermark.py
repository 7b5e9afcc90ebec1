"""The kernel's own sum: may this request have a page of this zone [mm/page_alloc.c: __zone_watermark_ok]."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastalloc.explain.caller import Caller
from fastalloc.explain.mem_info import FreeList, MemInfo, ZoneInfo
from fastalloc.linux.release import Release
from fastalloc.linux.watermark_boost import boost_of_marks
from fastalloc.linux.watermark_rules import (
    BOOST_UNPRINTED,
    FAST_WITHOUT,
    HIGHATOMIC_BOUND,
    HIGHATOMIC_UNPRINTED,
    Rules,
)


@dataclass
class ZoneSum:
    """A zone against a request, in pages. None where the report does not say or the step was not reached."""

    node: int
    zone: str
    free: int
    allowed: bool
    verdict: str = ""
    min: int | None = None
    low: int | None = None
    high: int | None = None
    boost: int | None = None
    mark: int | None = None
    lowmem_reserve: int | None = None
    unusable: dict[str, int] = field(default_factory=dict)
    available: int | None = None
    need_more_than: int | None = None
    short_by: int | None = None
    halving: dict[str, int] | None = None  # of the order loop, where it refused
    largest_usable_order: int | None = None
    last_try_high: dict[str, int] | None = None  # before an OOM kill
    at: str = "min"  # the mark that refused
    discounts: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    lists_known: bool = False
    short_by_range: tuple[int, int] | None = None  # where pages kept for high-order atomic requests are not printed
    broken: bool = False  # its min mark is above all pages that there are

    def as_json(self) -> dict[str, object]:
        """Its fields, those without a value left out beside the ones that every zone has."""
        always = (
            "node",
            "zone",
            "allowed",
            "free",
            "mark",
            "lowmem_reserve",
            "unusable",
            "available",
            "short_by",
            "verdict",
        )
        data: dict[str, object] = {name: getattr(self, name) for name in always}
        for name in (
            "min",
            "low",
            "high",
            "boost",
            "need_more_than",
            "halving",
            "largest_usable_order",
            "last_try_high",
        ):
            value = getattr(self, name)
            if value is not None:
                data[name] = value
        if self.short_by_range is not None:
            data["short_by_range"] = list(self.short_by_range)
        if self.at != "min":
            data["at"] = self.at
        if self.notes:
            data["notes"] = self.notes
        return data


@dataclass(frozen=True)
class Request:
    """What is asked of a zone. ``reserve``: its lowmem_reserve for the request's class, None where unknown."""

    order: int
    caller: Caller
    rules: Rules
    release: Release
    oom: bool


def lower_mark(mark: int, boost: int, request: Request) -> tuple[int, tuple[str, ...]]:
    """The mark after this caller's discounts, and what they were."""
    rules, caller, said = request.rules, request.caller, []
    asks_retry = {"ATOMIC": caller.has("ATOMIC"), "MIN_RESERVE": caller.high}.get(rules.boost_retry, False)
    if boost and request.order == 0 and asks_retry:
        mark -= boost
        said.append(f"without the boost of {boost}: {mark}")
    if caller.victim:  # ALLOC_OOM replaces the other flags [__gfp_pfmemalloc_flags]
        return mark - mark // 2, (*said, f"OOM half: {mark - mark // 2}")
    nested = rules.discount.startswith("MIN_RESERVE")
    if caller.high:
        mark = mark // 2 if rules.high == "floor" else mark - mark // 2
        said.append(f"{'MIN_RESERVE' if nested else 'HIGH'} half: {mark}")
    if caller.harder and (caller.high or not nested):
        mark -= mark // 4
        said.append(f"{'NON_BLOCK' if nested else 'HARDER'} quarter: {mark}")
    return mark, tuple(said)


def hidden_boost(zone: ZoneSum, release: Release) -> int:
    """The boost that 5.0 to 5.15 do not print, as the marks show it; 0 where they show none."""
    if zone.boost is not None or release.base not in BOOST_UNPRINTED or zone.min is None or zone.low is None:
        return 0
    return boost_of_marks(zone.zone, zone.min, zone.low)


def taken_off(info: ZoneInfo, block: MemInfo, request: Request, cma_ok: bool, reserves: bool) -> dict[str, int]:
    """Pages of ``free`` that this request may not count: by order, highatomic and CMA."""
    rules = request.rules
    size = 1 << request.order
    unusable = {"order": size + 1 if rules.taken == "order + 1" else size - 1}
    if rules.cma != "none" and not cma_ok:
        cma = free_cma(info, block)
        if cma:
            unusable["cma"] = cma
    if not reserves:
        highatomic = kept_highatomic(info, block, rules)
        if highatomic:
            unusable["highatomic"] = highatomic
    return unusable


def free_cma(info: ZoneInfo, block: MemInfo) -> int:
    """Free CMA pages of a zone; from the counters where its line was cut and no other zone can have them."""
    own = block.pages(info, "free_cma")
    if own is not None:
        return own
    total = block.totals.get("free_cma", 0)
    if not total:
        return 0
    known = sum(block.pages(other, "free_cma") or 0 for other in block.zones)
    unknown = [other for other in block.zones if "free_cma" not in other.kb]
    return total - known if len(unknown) == 1 and total > known else 0


def kept_highatomic(info: ZoneInfo, block: MemInfo, rules: Rules) -> int:
    """Pages kept for high-order atomic requests: all of their blocks, from 6.12 the free ones."""
    if rules.highatomic == "none":
        return 0
    reserved = block.pages(info, "reserved_highatomic") or 0
    if rules.highatomic == "free":
        free = block.pages(info, "free_highatomic")
        return reserved if free is None else free
    return reserved


def counts_highatomic(request: Request) -> bool:
    """True where the request may count the pages kept for high-order atomic requests."""
    caller, rules = request.caller, request.rules
    if rules.highatomic_for == "all" or caller.victim:
        return True
    if rules.highatomic_for == "HARDER":
        return caller.harder
    return caller.harder or caller.high or caller.highatomic  # ALLOC_RESERVES


def usable_letters(request: Request, oom_try: bool = False) -> tuple[str, str]:
    """The lists whose blocks the request may take: by the check, and at the removal [rmqueue]."""
    rules, caller = request.rules, request.caller
    letters = "UMER"
    if caller.cma_ok and not oom_try:
        letters += "C"
    check = letters
    if rules.letters == "any" or (rules.letters == "any for HARDER" and caller.harder and not oom_try):
        check = "UMERCHI"
    may_h = caller.harder if rules.letters in ("any for HARDER", "H for HARDER") else caller.highatomic
    if request.order == 0:
        may_h = rules.order0_highatomic == "NON_BLOCK" and caller.harder
    may_h = may_h or (caller.victim and request.order > 0)
    if may_h and not oom_try and rules.letters != "any":
        letters += "H"
        check += "" if "H" in check else "H"
    return check, letters


def usable_blocks(lists: FreeList, order: int, letters: str) -> int | None:
    """Blocks of at least ``order`` with one of the letters; None where the line is cut and none is in sight.

    A count with several letters is at least one block of each. Without letters (to 3.7) every block counts.
    """
    found = 0
    for size, (count, kinds) in enumerate(lists.blocks):
        if size >= order and count and (kinds is None or any(kind in letters for kind in kinds)):
            found += 1
    if not found and not lists.whole:
        return None
    return found


def largest_order(lists: FreeList, letters: str) -> int | None:
    """The order of the largest block with one of the letters; None without one."""
    orders = [
        size
        for size, (count, kinds) in enumerate(lists.blocks)
        if count and (kinds is None or any(kind in letters for kind in kinds))
    ]
    return max(orders) if orders else None


def order_loop(available: int, mark: int, lists: FreeList, order: int, cma_back: int) -> dict[str, int] | None:
    """The loop of 2.6.11 to 4.3: blocks too small are taken off, the mark halves. None where it passes.

    ``cma_back``: pages taken off for the first check alone (3.10 to 4.3).
    """
    for size, left, least in _steps(available + cma_back, mark, lists, order):
        if left <= least:
            return {"order": size + 1, "left": left, "need_more_than": least, "short_by": least + 1 - left}
    return None


def _steps(left: int, mark: int, lists: FreeList, order: int) -> Iterator[tuple[int, int, int]]:
    """Each step of the order loop: the size taken off, what is left of the pages, and the mark that they are asked."""
    for size in range(min(order, len(lists.blocks))):
        left -= lists.blocks[size][0] << size
        mark >>= 1
        yield size, left, mark


def needed_in_blocks(info: ZoneInfo, request: Request, mark: int, available: int, oom_try: bool = False) -> int:
    """How many pages must come in blocks of the request's order though single ones would do for the mark; 0: none.

    A single page more raises what the first check counts and what the order loop takes off alike, so no number of
    them passes the loop [zone_watermark_ok, 2.6.11 to 4.3]; from 4.4 a block is asked for besides the mark
    [__zone_watermark_ok]. 0 as well where the free list is lost. ``available``: as the loop counts.
    """
    order, lists = request.order, info.lists
    if order == 0 or lists is None:
        return 0
    needed = 1 << order if usable_blocks(lists, order, usable_letters(request, oom_try)[1]) == 0 else 0
    if request.rules.order_check == "loop":
        needed = max([needed, *(least + 1 - left for _, left, least in _steps(available, mark, lists, order))])
    return needed


def last_try_decided(zones: list[ZoneSum]) -> bool:
    """True where a zone passes at min and the try at high before a kill refused: then high is what refused all zones
    [__alloc_pages_may_oom: one get_page_from_freelist over the whole zonelist]."""
    return any(zone.at != "min" for zone in zones)


def check_zone(zone: ZoneSum, info: ZoneInfo, block: MemInfo, request: Request) -> None:
    """Does the sum of one zone and writes its verdict."""
    rules, caller = request.rules, request.caller
    zone.lists_known = info.lists is not None
    check, remove = usable_letters(request)
    if info.lists is not None:
        zone.largest_usable_order = largest_order(info.lists, remove)
    if caller.memalloc:
        _without_mark(zone, info, request, remove)
        return
    assert zone.min is not None
    zone.mark, zone.discounts = lower_mark(zone.min, zone.boost or hidden_boost(zone, request.release), request)
    zone.unusable = taken_off(info, block, request, caller.cma_ok, counts_highatomic(request))
    if rules.fast == "without highatomic" and request.order == 0 and "highatomic" in zone.unusable:
        # The short cut of 4.7 to 5.8 asks the full mark and does not take the highatomic pages off.
        if zone.free - zone.unusable.get("cma", 0) > zone.min + (zone.lowmem_reserve or 0):
            del zone.unusable["highatomic"]
    zone.available = zone.free - sum(zone.unusable.values())
    zone.need_more_than = zone.mark + (zone.lowmem_reserve or 0)
    zone.short_by = max(zone.need_more_than + 1 - zone.available, 0)
    zone.short_by_range = _range(zone, info, block, request)
    if zone.short_by:
        zone.verdict = "below-mark"
    else:
        zone.verdict = _blocks(zone, info, request, check, remove)
    if request.oom and rules.oom_min == "high":
        _last_try(zone, info, block, request)


def _range(zone: ZoneSum, info: ZoneInfo, block: MemInfo, request: Request) -> tuple[int, int] | None:
    """How short the zone is at least and at most, where the report does not print what is kept for high-order atomic
    requests: up to a hundredth of the zone and two page blocks [reserve_highatomic_pageblock]."""
    assert zone.available is not None
    assert zone.need_more_than is not None
    if counts_highatomic(request) or request.rules.highatomic == "none":
        return None
    missing = zone.need_more_than + 1 - zone.available
    if request.release.base in HIGHATOMIC_UNPRINTED and (request.order or request.release.base < FAST_WITHOUT):
        largest = 1 << (len(info.lists.blocks) - 1 if info.lists is not None and info.lists.whole else 10)
        most = (block.pages(info, "managed") or 0) // 100 + 2 * largest  # a page block is no larger than that
        return max(missing, 0), max(missing + min(most, zone.free), 0)
    kept = zone.unusable.get("highatomic", 0)
    if request.release.base in HIGHATOMIC_BOUND and kept:
        return max(missing - kept, 0), max(missing, 0)
    return None


def _without_mark(zone: ZoneSum, info: ZoneInfo, request: Request, remove: str) -> None:
    """The caller was asked for no mark: only an empty list can refuse."""
    zone.unusable = {"order": (1 << request.order) - 1}
    zone.available = zone.free - zone.unusable["order"]
    blocks = usable_blocks(info.lists, request.order, remove) if info.lists is not None else None
    if blocks is None:
        blocks = int(zone.available > 0)
    if blocks:
        zone.short_by, zone.verdict = 0, "passes-now"
    elif request.order and info.lists is not None and usable_blocks(info.lists, 0, remove):
        zone.short_by, zone.verdict = 0, "fragmentation"
    else:
        zone.short_by, zone.verdict = 1, "below-mark"


def _blocks(zone: ZoneSum, info: ZoneInfo, request: Request, check: str, remove: str) -> str:
    """The mark passes: is there a block, by the check of that version and at the removal?"""
    rules, order = request.rules, request.order
    if info.lists is None:
        if order == 0:
            return "passes-now"
        zone.notes.append(
            "its free list is not in the text: that it has no block of this order follows from the failure"
        )
        return "fragmentation"
    if order and rules.order_check == "loop":
        assert zone.available is not None
        assert zone.mark is not None
        back = zone.unusable.get("cma", 0) if rules.cma == "check" else 0
        zone.halving = order_loop(zone.available, zone.mark, info.lists, order, back)
        if zone.halving is not None:
            return "fragmentation"
    blocks = usable_blocks(info.lists, order, remove)
    if blocks:
        return "passes-now"
    if blocks is None:
        rest = zone.free - sum(count << size for size, (count, _) in enumerate(info.lists.blocks))
        if rest >= 1 << max(order, len(info.lists.blocks)):
            zone.notes.append("its free list is cut: larger blocks may stand in the part that is lost")
            return "fragmentation" if order else "passes-now"
        blocks = 0
    if order == 0:
        if not any(count for count, _ in info.lists.blocks):
            zone.notes.append("its free list was empty when printed")
            return "passes-now"
        return "wrong-type"
    if "H" in check and check != remove and usable_blocks(info.lists, order, check):
        zone.notes.append("the check of this version accepts any block; the removal found none that it may take")
    return "fragmentation"


def _last_try(zone: ZoneSum, info: ZoneInfo, block: MemInfo, request: Request) -> None:
    """Before a kill: one try at the high mark, without discount and without ALLOC_CMA [__alloc_pages_may_oom]."""
    if zone.high is None:
        return
    plain = request.caller._replace(high=False, harder=False, highatomic=False)
    last = Request(request.order, plain, request.rules, request.release, False)
    unusable = taken_off(info, block, last, False, counts_highatomic(last))
    available = zone.free - sum(unusable.values())
    need = zone.high + (zone.lowmem_reserve or 0)
    zone.last_try_high = {"need_more_than": need, "available": available, "short_by": max(need + 1 - available, 0)}
    if zone.verdict != "passes-now":
        return
    if zone.last_try_high["short_by"]:
        zone.verdict, zone.at = "below-mark", "high (the last try); passes at min"
    elif request.order and request.rules.order_check == "loop" and info.lists is not None:
        back = unusable.get("cma", 0) if request.rules.cma == "check" else 0
        loop = order_loop(available, zone.high, info.lists, request.order, back)
        if loop is not None:
            zone.halving, zone.verdict, zone.at = loop, "fragmentation", "high (the last try); passes at min"
    elif request.order and info.lists is not None:
        letters = usable_letters(last, oom_try=True)[1]
        if usable_blocks(info.lists, request.order, letters) == 0:
            zone.largest_usable_order = largest_order(info.lists, letters)
            zone.verdict, zone.at = "fragmentation", "high (the last try); passes at min"
