"""The boost that fragmentation gives the marks of a zone: printed or derived, and whether it is what refused."""

from fastalloc.explain.verdict import Decision
from fastalloc.explain.watermark import Request, ZoneSum, hidden_boost, lower_mark


def boost_of(zone: ZoneSum, decision: Decision) -> int:
    """The boost in a zone's marks: from 5.16 as printed; from 5.0 to 5.15 at least this much."""
    return zone.boost or (0 if zone.broken else hidden_boost(zone, decision.release))


def passes_without(zone: ZoneSum, decision: Decision, request: Request, at_high: bool) -> int:
    """The boost of a zone whose mark would be passed without it; 0 where it would not, or has none."""
    boost = boost_of(zone, decision)
    if not boost or zone.min is None or zone.available is None:
        return 0
    retried = decision.rules.boost_retry == "ATOMIC" and decision.caller.has("ATOMIC") and request.order == 0
    if retried and zone.boost is None:
        return 0  # it was asked again without the boost, and refused
    if at_high:
        last = zone.last_try_high
        return boost if last and 0 < last["short_by"] <= boost else 0
    mark, _ = lower_mark(zone.min - boost, 0, request)
    return boost if zone.short_by and zone.available > mark + (zone.lowmem_reserve or 0) else 0


def decided(zone: ZoneSum, boost: int, request: Request) -> bool:
    """True where nothing but the boost was against the request: without it the zone was not short of memory.

    Who may not wait has its mark alone. Who may wait would have passed low at once, without reclaim; before a kill high
    is what the last try asks [__alloc_pages, __alloc_pages_may_oom]. Who passes min alone, where reclaim found nothing
    to bring the zone up to that, fails a few pages later.
    """
    available, mark = zone.available, None
    if request.oom:
        available, mark = (zone.last_try_high or {}).get("available", available), zone.high
    elif request.caller.may_reclaim:
        mark = zone.low
    if mark is None or available is None:
        return True
    return available > mark - boost + (zone.lowmem_reserve or 0)


def boost_words(zone: ZoneSum, name: str, boost: int, alone: bool) -> str:
    """What to try against a boost that refused. ``alone``: nothing else was against the request."""
    about = "" if zone.boost is not None else "about "
    derived = "" if zone.boost is not None else ", which its marks show: low - min is a quarter of min without it"
    only = "" if alone else " puts it off by a few pages"
    return f"vm.watermark_boost_factor=0{only}: {name} passes without its boost of {about}{boost} pages{derived}"
