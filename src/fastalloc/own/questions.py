"""The questions that a policy of one's own may answer: what each is asked with, by which kernels, and what it means."""

from typing import NamedTuple

REQUEST = ("who", "gfp", "context", "cpu", "now")
RECORDS = {
    "cache": ("id", "size", "objsize", "objects", "order", "pages", "partial", "slabs", "min_partial"),
    "slab": ("id", "free", "total", "owner", "depth"),
    "zone": ("id", "free", "min", "low", "high"),
    "sheaf": ("size", "capacity", "full", "empty"),
    "pool": ("id", "free", "min"),
}
STATES = ("lane", "cpu", "cache", "slab")  # what may have words of its own

SLUBS = ("slub", "cpu-partial", "sheaves", "7.3")
SHEAVES = ("sheaves", "7.3")
EVERY = (*SLUBS, "slab", "slob")


class Question(NamedTuple):
    """``arguments``: names that its function may take. ``allocators``: that ask it. ``replay``: so does a replay."""

    arguments: tuple[str, ...]
    allocators: tuple[str, ...]
    asks: str
    replay: bool = False


QUESTIONS = {
    "merge": Question(("cache", "other"), SLUBS, "may the new cache share the slabs of the other? (names)"),
    "entitlement": Question(
        (*REQUEST, "cache", "slab", "state"), SLUBS, "may the caller have an object of this slab? 0 or 1", True
    ),
    "depth": Question((*REQUEST, "zone", "state"), EVERY, "pages that must stay free in this zone"),
    "fallback": Question((*REQUEST, "cache", "state"), SLUBS, "mask to try a refused request with once more"),
    "next_slab": Question(
        (*REQUEST, "cache", "slab", "state"), SLUBS, "may the next object come from this slab? 0 or 1", True
    ),
    "free_to": Question(
        ("cpu", "now", "context", "cache", "slab", "state"),
        SLUBS,
        "TO_SLAB (6.18 on), TO_NODE (3.2 to 6.17), TO_HEAD (2.6.25): where a freed object, or its slab, goes",
        True,
    ),
    "keep": Question(
        ("cpu", "now", "context", "cache", "slab", "state"),
        SLUBS,
        "partial slabs that there must be for this empty one to be given back",
        True,
    ),
    "refill": Question(
        (*REQUEST, "cache", "sheaf", "state"), SHEAVES, "objects to which this sheaf is filled, 1 to capacity", True
    ),
    "flush": Question(
        ("cpu", "now", "context", "cache", "sheaf", "state"),
        SHEAVES,
        "objects that stay in this full sheaf, 0 to size - 1",
        True,
    ),
    "mempool": Question((*REQUEST, "pool", "state"), EVERY, "1: the pool before the allocator, 0: after it"),
    "sleep": Question((*REQUEST, "pool", "state"), EVERY, "longest sleep for an element, ms; 0: until one returns"),
}
# Of a trace nobody knows who asked.
NOT_IN_REPLAY = ("who", "context")


def states_of(question: str) -> tuple[str, ...]:
    """Whose words of state a question may be answered with."""
    arguments = QUESTIONS[question].arguments
    return tuple(name for name in STATES if name in ("lane", "cpu") or name in arguments)
