"""Whether a lane's state is to be trusted: what broke, when, in which cache, said once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import Lane
from fastalloc.errors import InputError, LaneError
from fastalloc.kernels.alloc.guards import GUARDS
from fastalloc.kernels.alloc.kmem_inspect import overflowed
from fastalloc.kernels.alloc.own.face import drain
from fastalloc.kernels.alloc.own.state import SOUND, ZONE_CTL, Own
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import ROLE, VM
from fastalloc.kernels.machine.check import VIOLATIONS
from fastalloc.own import lane as own_lane
from fastalloc.own.allocator import own_allocator
from fastalloc.own.compiled import PolicyError
from fastalloc.own.failure import failure
from fastalloc.scenario.models import Scenario


class CapacityError(LaneError):
    """A lane outgrew its arrays; its result would be void."""


@dataclass(frozen=True)
class Broken:
    """A lane that has no result: a guard or an invariant failed, or its clock stood still."""

    lane: int
    variant: str
    tick: int
    seconds: float  # simulated
    cache: str  # by the names of its users; empty where it is no matter of one cache
    what: str

    def __str__(self) -> str:
        whose = f"lane {self.lane}{self.variant and f' of {self.variant}'}"
        where = f"cache of {self.cache}: " if self.cache else ""
        return f"{whose} at {self.seconds:.6f} s broke in tick {self.tick:,}: {where}{self.what}"

    def of(self, variant: str) -> "Broken":
        """The same lane of a variant that is the same machine."""
        return replace(self, variant=variant)


class ConservationError(LaneError):
    """A lane broke, see ``broken``."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(str(broken), broken.variant, broken.lane)
        self.broken = broken

    def __reduce__(self) -> tuple[type, tuple[Broken], dict[str, object]]:
        return type(self), (self.broken,), self.__dict__


def check_sound(lane: int, arrays: Lane, scenario: Scenario | None = None) -> None:
    """Raise ConservationError, PolicyError or CapacityError if the lane's state is not to be trusted."""
    variant = scenario.variants[0].name if scenario else ""
    now = int(arrays.vm.ctl[VM.now])
    where = f"lane {lane}{variant and f' of {variant}'} at {now / ms.NS_PER_S:.6f} s"
    guard, violation = int(arrays.mem.ctl[MEMCTL.broken]), int(arrays.vm.ctl[VM.error])
    if guard or violation:
        cache, what = "", VIOLATIONS[violation]
        if guard:
            cache = cache_name(scenario, arrays, int(arrays.mem.ctl[MEMCTL.broken_cache]))
            what = f"{GUARDS[guard]} (handle {int(arrays.mem.ctl[MEMCTL.broken_handle])})"
        tick = now // int(arrays.vm.ctl[VM.jiffy_ns])
        raise ConservationError(Broken(lane, variant, tick, now / ms.NS_PER_S, cache, what))
    if arrays.mem.ctl[MEMCTL.policy_failed]:
        told = failure(*scenario.policy.answers, arrays.mem.ctl) if scenario else "it was not told which"
        raise PolicyError(f"{where}: its policy failed: {told}", variant, lane)
    if isinstance(arrays.heap, Own) and arrays.heap.ctl[ZONE_CTL.wrong] != SOUND:
        told = _told_of(scenario, arrays, own_lane.failure)
        raise PolicyError(f"{where}: its allocator failed: {told}", variant, lane)
    if arrays.vm.ctl[VM.overflow]:
        raise InputError(
            f"lane {lane}",
            "workload",
            "more GFP_ATOMIC objects or pages of noise are alive at once than there is room for",
        )
    if overflowed(arrays.heap):
        raise CapacityError(f"{where}: more slabs or objects than its arrays hold", variant, lane)


def refuse_lost(lane: int, arrays: Lane, scenario: Scenario) -> None:
    """Raise PolicyError where an allocator of one's own lost objects or pages: at the end of a lane, which is of no
    use afterwards, everything is freed and every cache shrunk, and then no page may be held."""
    own = arrays.heap
    if not isinstance(own, Own):
        return
    variant, now = scenario.variants[0].name, int(arrays.vm.ctl[VM.now])
    held = drain(arrays.mem, own)
    check_sound(lane, arrays, scenario)
    if held:
        where = f"lane {lane}{variant and f' of {variant}'} at its end, {now / ms.NS_PER_S:.6f} s"
        told = _told_of(scenario, arrays, own_lane.lost)
        raise PolicyError(f"{where}: its allocator failed: {told}", variant, lane)


def _told_of(scenario: Scenario | None, arrays: Lane, tell: Callable[..., str]) -> str:
    """What went wrong with the allocator of a lane, in words."""
    if scenario is None:
        return "it was not told which"
    name = functools.partial(cache_name, scenario, arrays)
    return tell(own_allocator(*scenario.policy.own), arrays.heap, name)


def cache_name(scenario: Scenario | None, arrays: Lane, c: int) -> str:
    """Who has objects in a cache of a lane: merged ones have several users."""
    users = [label for label, its in zip(ROLE.names, arrays.vm.roles.tolist(), strict=True) if its == c]
    if not users and scenario is not None:
        layout = build_layout(scenario)
        users += [f"host {h} (sense)" for h, its in enumerate(layout.host_sense) if its == c]
        users += [f"background {i}" for i, its in enumerate(layout.background) if its == c]
    return ", ".join(users) or f"number {c}"
