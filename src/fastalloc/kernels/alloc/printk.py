"""Reports of page allocation failures: one that is printed, those that the rate limit swallows [kernel/printk.c]."""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.linux import gfp as g

INTERVAL_S = 5
BURST = 10


@kernel
def printk_ratelimit(mem):
    """One message per 5 s after a burst of 10, in jiffies [kernel/printk.c: __printk_ratelimit]."""
    ctl = mem.ctl
    interval = INTERVAL_S * ctl[MEMCTL.hz]
    tokens = ctl[MEMCTL.tokens] + ctl[MEMCTL.jiffies] - ctl[MEMCTL.token_jiffy]
    ctl[MEMCTL.token_jiffy] = ctl[MEMCTL.jiffies]
    if tokens > BURST * interval:
        tokens = BURST * interval
    if tokens >= interval:
        ctl[MEMCTL.tokens] = tokens - interval
        return True
    ctl[MEMCTL.tokens] = tokens
    return False


@folded
def next_printed(mem):
    """The first jiffy at which :func:`printk_ratelimit` lets a message through, if none comes that it does."""
    ctl = mem.ctl
    return INTERVAL_S * ctl[MEMCTL.hz] - ctl[MEMCTL.tokens] + ctl[MEMCTL.token_jiffy]


@folded
def swallow(mem, messages):
    """Count messages that the rate limit swallows up to the present jiffy."""
    ctl = mem.ctl
    ctl[MEMCTL.tokens] += ctl[MEMCTL.jiffies] - ctl[MEMCTL.token_jiffy]
    ctl[MEMCTL.token_jiffy] = ctl[MEMCTL.jiffies]
    ctl[MEMCTL.suppressed] += messages
    ctl[MEMCTL.missed] += messages


@kernel
def warn_alloc_failed(mem, cpu, gfp, order):
    """A request of a CPU failed for good: count it, print it unless NOWARN or the rate limit forbids."""
    mem.ctl[MEMCTL.failed] += 1
    if (gfp & g.NOWARN) != 0:
        return
    mem.ctl[MEMCTL.report_gfp] = gfp
    mem.ctl[MEMCTL.report_order] = order
    if printk_ratelimit(mem):
        mem.ctl[MEMCTL.reports] += 1
        mem.ctl[MEMCTL.report_cpu] = cpu
        mem.ctl[MEMCTL.last_missed] = mem.ctl[MEMCTL.missed]
        mem.ctl[MEMCTL.missed] = 0
    else:
        mem.ctl[MEMCTL.suppressed] += 1
        mem.ctl[MEMCTL.missed] += 1
