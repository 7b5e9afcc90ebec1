"""What a policy of one's own costs a replay: one that leaves all to the kernel, and two that are asked of each free."""

from collections.abc import Iterator

from benchmarks.measure import Row, race, rate
from benchmarks.twin import KernelRun
from benchmarks.works import SYNTHETIC_ROWS, synthetic
from fastalloc.own.compiled import own_policy

QUESTION = "At which share of its speed does the replay kernel run with a policy of one's own that changes nothing?"
UNIT = "events/s"
ERA = "7.3"  # which asks of each free where it goes
WORKS = ("random", "remote", "large")
POLICIES = {
    "leaves all to the kernel": """
from fastalloc.own import KERNEL

def free_to(slab):
    return KERNEL

def keep(cache):
    return KERNEL

def refill(sheaf):
    return KERNEL
""",
    "asked of each free": """
from fastalloc.own import DEPTH, KERNEL, TO_SLAB

def free_to(slab):
    return TO_SLAB if slab.depth == DEPTH.none else KERNEL
""",
    "asked of each free, and counts them": """
from fastalloc.own import KERNEL, TO_SLAB
STATE = {"cache": ["frees"]}

def free_to(cache, slab, state):
    state.cache.frees += 1
    return TO_SLAB if slab.free > slab.total or cache.partial < 0 else KERNEL
""",
}


def run(quick: bool) -> Iterator[Row]:
    """A row for each work and policy."""
    policies = {name: own_policy(text, name) for name, text in POLICIES.items()}
    for name in WORKS:
        work = synthetic(name, ERA, 1 << 16 if quick else SYNTHETIC_ROWS)
        plain = KernelRun(work)
        plain.run()
        for each, policy in policies.items():
            own = KernelRun(work, policy)
            own.run()
            if not own.outcome().same_as(plain.outcome()):
                raise SystemExit(f"{work.name}: the policy that is {each!r} changed something")
        runs = {"kernel": lambda work=work: KernelRun(work).run}
        runs |= {each: lambda work=work, own=own: KernelRun(work, own).run for each, own in policies.items()}
        times = race(runs, 3 if quick else 11)
        yield rate(work.name, "kernel", times, len(work.events), UNIT)
        for each in policies:
            yield rate(work.name, each, times, len(work.events), UNIT, "kernel")
