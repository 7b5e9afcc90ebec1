"""What `fastalloc policy check` finds: the mean of nothing, and a sheaf that is to keep more than it holds."""

STATE = {"cache": ["flushes", "kept"]}


def keep(cache, state):
    state.cache.kept += cache.partial
    return state.cache.kept // (cache.slabs - 1)


def flush(sheaf, state):
    state.cache.flushes += 1
    return sheaf.size
