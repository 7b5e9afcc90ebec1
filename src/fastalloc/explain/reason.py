"""Why the kernel gave up and said so: what a mask and an order tell of the way through the slow path."""

from fastalloc.explain.reports import Report
from fastalloc.explain.sentence import COSTLY_ORDER
from fastalloc.explain.verdict import Decision


def reported_because(report: Report, decision: Decision) -> str:
    """One clause; empty where nothing was asked or the mask is lost [__alloc_pages_slowpath, __alloc_pages_may_oom]."""
    caller, release, rules = decision.caller, decision.release, decision.rules
    if report.mode is None or report.kind not in ("failure", "oom") or (report.order or 0) < 0:
        return ""
    if report.kind == "oom" and decision.verdict == "other":
        return ""  # by hand [drivers/tty/sysrq.c: moom_callback]
    if report.kind == "oom" and decision.verdict == "memcg-limit":
        # The charge comes after the page was there: no mark is tried [mm/memcontrol.c: try_charge, mem_cgroup_oom].
        return "the cgroup was at its limit, and reclaim inside it made no progress"
    if report.page_fault:
        return "a page fault came back with VM_FAULT_OOM; the OOM killer is then called without a try at any mark"
    if report.kind == "oom":
        made_none = "reclaim made no progress"
        return made_none + (", and the last try at the high mark failed" if rules.oom_min == "high" else "")
    order = report.order or 0
    if caller.memalloc:
        return "a caller without marks is not retried: empty lists are the end"
    if not caller.may_reclaim:
        return "it may not reclaim: one try at its mark, after kswapd was woken"
    if caller.has("NORETRY"):
        return "__GFP_NORETRY: one round of reclaim and compaction, no retry"
    if order > COSTLY_ORDER and not (caller.has("REPEAT") or caller.has("RETRY_MAYFAIL")):
        return f"order {order} is above {COSTLY_ORDER}: it fails after reclaim and compaction, without an OOM kill"
    if caller.has("RETRY_MAYFAIL") or (caller.has("THISNODE") and release.base >= (3, 0, 0)):
        return "the OOM killer is not called for __GFP_RETRY_MAYFAIL or __GFP_THISNODE"
    if caller.mask_zone in ("DMA", "DMA32"):
        return f"the OOM killer is not called for a request confined to {caller.mask_zone}"
    return (
        f"the kernel retries such a request (order {order}, may reclaim) for ever: so the task was reclaiming itself "
        "(PF_MEMALLOC), an OOM victim, dumping core, or the OOM killer was off"
    )
