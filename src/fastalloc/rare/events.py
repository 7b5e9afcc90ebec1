"""What counts as an event of a lane, and when it happened.

``livelock``: the queue waits, no command is in flight, every attempt is refused and every reclaimer sleeps, for 5 s;
it happened at its onset. ``stall>SECONDS``: pages under writeback and no command started for so long. ``refused``: a
request for a GFP_ATOMIC object or page of the load, or for a sense buffer, was refused. ``reserve<PAGES``: fewer free
pages in the zone that serves the kernel.
"""

import re
from typing import NamedTuple

from fastalloc.batch.lane import Lane
from fastalloc.errors import InputError, meant
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import VM

KINDS = ("livelock", "stall", "refused", "reserve")
REFUSED = (METRIC.noise_failures, METRIC.burst_refused, METRIC.sense_fail, METRIC.host_sense_fail)


class Event(NamedTuple):
    """An event to wait for."""

    kind: str  # one of KINDS
    limit: float = 0.0  # of a stall in seconds, of the reserve in pages

    def __str__(self) -> str:
        return {"stall": f"stall>{self.limit:g}", "reserve": f"reserve<{self.limit:g}"}.get(self.kind, self.kind)

    @property
    def words(self) -> str:
        """As a sentence names it, with its article."""
        return {
            "livelock": "a livelock",
            "stall": f"a stall longer than {self.limit:g} s",
            "refused": "a refused GFP_ATOMIC allocation",
            "reserve": f"a reserve below {self.limit:g} pages",
        }[self.kind]


def parse_event(text: str) -> Event:
    """``livelock``, ``stall>2.5``, ``refused`` or ``reserve<64``.

    Raises:
        InputError: it is none of them.
    """
    if text in ("livelock", "refused"):
        return Event(text)
    found = re.fullmatch(r"(stall)>([0-9]+(?:\.[0-9]+)?)|(reserve)<([0-9]+)", text.replace(" ", ""))
    if not found or not float(found[2] or found[4]) > 0:
        near = meant(text, ("livelock", "stall>SECONDS", "refused", "reserve<PAGES"))
        raise InputError("--event", text, f"expected livelock, stall>SECONDS, refused or reserve<PAGES{near}")
    return Event(found[1] or found[3], float(found[2] or found[4]))


def happened_ns(event: Event, arrays: Lane) -> int | None:
    """When the event happened first, in ns of simulated time, as far as the lane has come; None if it has not.

    A refusal and a low reserve leave no time behind: they are taken to have happened now, so look often.
    """
    metric, ctl = arrays.out.metric, arrays.vm.ctl
    if event.kind == "livelock":
        if not metric[METRIC.livelock_5s]:
            return None
        if ctl[VM.livelock_stage] > 0:
            return int(ctl[VM.livelock_since])
        return max(0, int(metric[METRIC.at_ms]) - 5000) * ms.NS_PER_MS  # it has ended since
    if event.kind == "stall":
        longest = round(event.limit * ms.NS_PER_S)
        since = int(ctl[VM.stall_since])
        if since != ms.NEVER and ctl[VM.now] - since > longest:
            return since + longest
        if metric[METRIC.stall_ms] * ms.NS_PER_MS > longest:
            return int(metric[METRIC.stall_onset_ms]) * ms.NS_PER_MS + longest
        return None
    if event.kind == "refused":
        return int(ctl[VM.now]) if any(metric[column] for column in REFUSED) else None
    zone = int(arrays.mem.ctl[MEMCTL.nr_zones]) - 1 - int(arrays.mem.ctl[MEMCTL.user_zones])
    return int(ctl[VM.now]) if arrays.mem.zone[zone, ZONE.min_free] < event.limit else None


def is_open(event: Event, arrays: Lane) -> bool:
    """Whether something has begun that may yet turn out to be the event: what a lane's end must not cut off."""
    if event.kind == "livelock":
        return bool(arrays.vm.ctl[VM.livelock_since] != ms.NEVER and not arrays.out.metric[METRIC.livelock_5s])
    if event.kind == "stall":
        return bool(arrays.vm.ctl[VM.stall_since] != ms.NEVER and happened_ns(event, arrays) is None)
    return False
