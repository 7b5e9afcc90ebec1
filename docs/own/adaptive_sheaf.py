"""A sheaf is filled as its cache is used: the more often it is refilled, the fuller it gets, up to its capacity."""

from fastalloc.own import parameter

STATE = {"cache": ["filled", "since"]}  # objects that the last refill filled a sheaf to, and when, ms
quick = parameter("quick", 20, 1, 60_000, "ms within which a second refill shows a busy cache")
least = parameter("least", 4, 1, 500, "objects that a sheaf of a quiet cache is filled to")


def refill(now, sheaf, cache, state):
    busy = now - state.cache.since <= quick
    filled = max(least, state.cache.filled * 2 if busy else state.cache.filled // 2)
    state.cache.filled = min(filled, sheaf.capacity)
    state.cache.since = now
    return state.cache.filled


def flush(sheaf, cache, state):
    """A full sheaf that finds no place: what a refill would bring back stays."""
    return min(state.cache.filled // 2, sheaf.size - 1)
