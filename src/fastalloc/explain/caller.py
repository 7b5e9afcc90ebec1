"""Who asked: what a mask and a trace say about the request."""

import re
from collections.abc import Callable
from typing import NamedTuple

from fastalloc.explain.reports import Report
from fastalloc.explain.version import Kernel
from fastalloc.linux.gfp_masks import ASKS_FOR_CMA, candidates, decode, from_names, of_others
from fastalloc.linux.mem_info import ZONE_VERSIONS
from fastalloc.linux.release import BASES, base_name
from fastalloc.linux.watermark_rules import Rules, highatomic_needs_high

# Frames under an allocation that say PF_MEMALLOC: the task reclaims [mm/vmscan.c: __perform_reclaim, kswapd].
_RECLAIM = re.compile(
    r"^(?:try_to_free_pages|do_try_to_free_pages|shrink_\w+|__perform_reclaim|balance_pgdat|kswapd|shrink_slab|"
    r"try_to_free_mem_cgroup_pages|evict_folios|do_shrink_slab)(?:\.|$)"
)
_IRQ = re.compile(
    r"^(?:do_IRQ|__do_softirq|do_softirq\w*|irq_exit\w*|handle_irq\w*|handle_IRQ_event|net_rx_action|common_interrupt|"
    r"__irq_svc|el1_irq|gic_handle_irq|asm_common_interrupt|ret_from_intr|handle_softirqs|timer_interrupt|"
    r"smp_apic_timer_interrupt|plat_irq_dispatch|__handle_domain_irq|generic_handle_domain_irq)(?:\.|$)"
)
_ANDROID = re.compile(r"-(?:android\d|q?gki\b)")  # in the name of its kernels (generic kernel image)
_ALLOC = re.compile(r"alloc_page|^warn_alloc|^__alloc|alloc_frozen_pages")


_Has = Callable[[str], bool]


class Caller(NamedTuple):
    """The request behind a report. ``memalloc`` is None where nothing tells."""

    flags: tuple[str, ...]
    names: str
    unknown: int  # bits of the mask without a name
    may_reclaim: bool
    atomic: bool
    high: bool
    harder: bool
    highatomic: bool  # may take blocks kept for high-order atomic requests
    memalloc: bool
    memalloc_known: bool
    cma_ok: bool
    interrupt: bool
    mask_zone: str
    notes: tuple[str, ...]
    victim: bool = False  # of the OOM killer, with ALLOC_OOM: no report tells

    def has(self, flag: str) -> bool:
        """True where the mask holds the flag (without its ``__GFP_``)."""
        return f"__GFP_{flag}" in self.flags


def caller_of(report: Report, kernel: Kernel, rules: Rules, layout: tuple[str, ...]) -> Caller:
    """Reads the mask of a report by its kernel's table, and its trace."""
    base = kernel.release.base
    notes: list[str] = []
    mode = report.mode
    if mode is None and report.kind == "oom":
        mode, _, _ = from_names("GFP_KERNEL", base)
        notes.append("the mask is not in the text: GFP_KERNEL is assumed")
    elif mode is None:
        # Nobody may go lower than GFP_ATOMIC without being exempt: who fails at its mark fails at every other.
        mode, _, _ = from_names("GFP_ATOMIC", base)
        notes.append("the mask is not in the text: GFP_ATOMIC is assumed, whose mark is the lowest")
    if report.page_fault:
        notes.append("mask and order 0 stand for a request that is not known: a page without discounts is assumed")
    read = decode(mode, base)
    flags = read.flags
    others: tuple[str, ...] = ()
    if report.mode_names:
        _, named, lost = from_names(report.mode_names, base)
        others = of_others(lost)
        if others:
            # Its bits may be those that this version gives to other names: what is printed counts.
            flags = (*(named if others == lost else flags), *others)
            notes.append(f"{base_name(base)} has no {', '.join(others)}: of a vendor's kernel, taken as printed")
        # A combination of the table may have a bit that a distribution's kernel lacks; bits outside the names count.
        if (read.unknown or set(flags) - set(named)) and not lost:
            ours = "|".join(read.names)
            beside = f"the table of {base_name(base)} {ours}" if ours != report.mode_names else "the mask more bits"
            notes.append(f"the names printed say {report.mode_names}, {beside}")
            flags = named
    for bit, either in read.either.items() if not others else ():
        printed = [name for name in either if report.mode_names and name in report.mode_names]
        if not printed:
            notes.append(f"bit {bit:#x} is {' or '.join(either)}, by configuration")
    if read.unknown and read.unknown.bit_count() > len(others):
        notes.append(f"bits {read.unknown:#x} have no name in {base_name(base)}")
    if not kernel.in_text and report.mode is not None:
        spans = candidates(mode, kernel.within)
        if len(spans) > 1:
            said = "; ".join(f"{one}: {'|'.join(decode(mode, one.first).names) or '0'}" for one in spans)
            notes.append(f"the mask may be {said}")
    has = frozenset(flags).__contains__
    cma_ok = has("__GFP_MOVABLE") and rules.cma != "none"
    if cma_ok and not has("__GFP_CMA") and _ANDROID.search(kernel.release.text) and base >= ASKS_FOR_CMA:
        cma_ok = False
        notes.append("Android's kernel gives CMA pages only to a movable request with __GFP_CMA")
    wait = has("__GFP_WAIT") or has("__GFP_DIRECT_RECLAIM")
    if report.kind == "oom":
        wait_or_oom = True  # only who reclaimed comes to the OOM killer
    else:
        wait_or_oom = wait
    interrupt = report.interrupt or _in_interrupt(report)
    # Who is asked for no mark does not come to the OOM killer.
    memalloc, known = (False, True) if report.kind == "oom" else _memalloc(report, has, rules, interrupt)
    high = has("__GFP_HIGH")
    harder = _harder(has, wait_or_oom, rules)
    order = report.order or 0
    highatomic = False
    if rules.harder == "NON_BLOCK":
        highatomic = harder and order > 0 and (high or not highatomic_needs_high(kernel.release))
    return Caller(
        flags,
        report.mode_names or "|".join(read.names) or "0",
        read.unknown,
        wait,
        has("__GFP_ATOMIC") or (high and not wait),
        high,
        harder,
        highatomic,
        memalloc,
        known,
        cma_ok,
        interrupt,
        _mask_zone(has, base, layout),
        tuple(notes),
    )


def _harder(has: _Has, wait: bool, rules: Rules) -> bool:
    """HARDER (from 6.3 NON_BLOCK) [mm/page_alloc.c: gfp_to_alloc_flags]."""
    nomemalloc = has("__GFP_NOMEMALLOC")
    if rules.harder == "no wait":
        return not wait
    if rules.harder == "no wait, no NOMEMALLOC":
        return not wait and not nomemalloc
    if rules.harder == "no wait, no NO_KSWAPD, no NOMEMALLOC":
        return not wait and not nomemalloc and not has("__GFP_NO_KSWAPD")
    if rules.harder == "ATOMIC, no NOMEMALLOC":
        return has("__GFP_ATOMIC") and not nomemalloc
    return not wait and not nomemalloc


def _memalloc(report: Report, has: _Has, rules: Rules, interrupt: bool) -> tuple[bool, bool]:
    """Whether the caller was asked for no mark at all, and whether the report tells."""
    if has("__GFP_NOMEMALLOC") and rules.memalloc != "PF_MEMALLOC":
        return False, True
    if has("__GFP_MEMALLOC") and rules.memalloc.startswith("MEMALLOC"):
        return True, True
    if interrupt:
        return False, True  # an interrupt does not inherit the task's PF_MEMALLOC
    allocated = False
    for name, sure in report.frames:
        if _ALLOC.search(name):
            allocated = True
        elif allocated and sure and _RECLAIM.match(name):
            return True, True
    kswapd = re.fullmatch(r"kswapd\d*", report.comm) is not None
    if kswapd and has_wait(has):
        return True, True
    return False, bool(report.frames) and not kswapd


def has_wait(has: _Has) -> bool:
    """The mask lets the caller sleep."""
    return bool(has("__GFP_WAIT") or has("__GFP_DIRECT_RECLAIM"))


def _in_interrupt(report: Report) -> bool:
    allocated = False
    for name, sure in report.frames:
        if _ALLOC.search(name):
            allocated = True
        elif allocated and sure and _IRQ.match(name):
            return True
        elif allocated and sure and _RECLAIM.match(name):
            return False
    return False


def _mask_zone(has: _Has, base: tuple[int, int, int], layout: tuple[str, ...]) -> str:
    """gfp_zone(): the highest zone that the mask may use [include/linux/gfp.h]."""

    def if_built(zone: str) -> str:
        return zone if zone in layout else "Normal"

    if has("__GFP_DMA"):
        return if_built("DMA")
    if has("__GFP_DMA32"):
        return if_built("DMA32")
    if has("__GFP_HIGHMEM"):
        if has("__GFP_MOVABLE") and base in ZONE_VERSIONS["Movable"]:
            return "Movable"
        return if_built("HighMem")
    return "Normal"


__all__ = ["BASES", "Caller", "caller_of"]
