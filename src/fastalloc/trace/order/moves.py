"""Moves: an operation nearby that happened earlier or later than its event says."""

from fastalloc.compiler.jit import internal, out_of_line
from fastalloc.trace.order.model import (
    BEGIN,
    FOUND,
    GONE,
    LOOK,
    MOVE,
    ORDER_EVENT,
    copy_model,
    follow,
    one_of,
    saved_before,
)

STEPS = 64  # other operations that one may pass
BEGIN_STEPS = 1024
REACH = 600  # positions around a disagreement at which an operation is tried
NEAR = 48  # of these, the ones tried whatever their slab
MAX_TRIES = 12_000  # for one disagreement


@internal
def make_move(events, order, scratch, move):
    """Apply ``move`` to ``order``; the others keep their order, as do those that move."""
    out_of_line()
    n = 0
    for turn in range(2):
        for i in range(move[MOVE.first], move[MOVE.last] + 1):
            inside = events[order[i], move[MOVE.column]] == move[MOVE.group]
            if inside == ((turn == 0) == (move[MOVE.front] != 0)):
                scratch[n] = order[i]
                n += 1
    for i in range(n):
        order[move[MOVE.first] + i] = scratch[i]


@internal
def agrees_until(search, wrong, goal):
    """How far rules and addresses agree with ``move`` made, as if position ``wrong`` had kept its place."""
    out_of_line()
    move = search.move
    order = search.order
    scratch = search.scratch
    use = saved_before(search.saved_at, move[MOVE.first])
    if use < 0:
        return wrong
    first = move[MOVE.first]
    last = move[MOVE.last]
    x = order[wrong]
    room = scratch.shape[0] // 2
    for i in range(first, last + 1):
        scratch[room + i - first] = order[i]
    make_move(search.events, order, scratch, move)
    copy_model(search.trial, one_of(search.saved, use), search.cpus)
    reached = follow(search, search.trial, search.saved_at[use], goal)
    now = wrong
    if first <= wrong <= last:
        now = first
        while order[now] != x:
            now += 1
    for i in range(first, last + 1):
        order[i] = scratch[room + i - first]
    return goal if reached >= goal else reached - now + wrong


@internal
def best_move(search, wrong, have):
    """Fill ``search.best`` with the move after which rules and addresses agree for longest; False if none helps."""
    out_of_line()
    events = search.events
    order = search.order
    at = search.saved_at
    move = search.move
    n = order.shape[0]
    goal = min(n, wrong + LOOK)
    oldest = wrong
    for i in range(at.shape[0]):
        if at[i] >= 0:
            oldest = min(oldest, at[i])
    x = events[order[wrong]]
    reached = wrong
    tries = 0
    # First when an allocation that needed a new slab began, then what tasks did between their events, then what
    # interrupts may have hidden.
    for turn in range(3):
        if reached > wrong:
            break
        nested = turn != 1
        column = ORDER_EVENT.call if nested else ORDER_EVENT.task
        for step in range(2 * REACH):
            c = wrong + (step // 2 if step % 2 == 0 else -(step // 2 + 1))
            if (step % 2 == 0 and step // 2 > LOOK) or c < oldest or c >= n or reached >= goal:
                continue
            y = events[order[c]]
            if y[ORDER_EVENT.op] == GONE or tries >= MAX_TRIES:
                continue
            begin = y[ORDER_EVENT.op] == BEGIN
            if turn == 0 and not (begin and y[ORDER_EVENT.object] == x[ORDER_EVENT.object]):
                continue
            of_interest = (
                y[ORDER_EVENT.block] == x[ORDER_EVENT.block]
                or y[ORDER_EVENT.block] == have
                or y[ORDER_EVENT.task] == x[ORDER_EVENT.task]
            )
            if step // 2 > NEAR and not of_interest:
                continue
            for later in range(2):
                if (later and begin) or (nested and (y[ORDER_EVENT.ends] >> later) & 1 == 0):
                    continue
                low = y[ORDER_EVENT.nested_low if nested else ORDER_EVENT.low]
                high = y[ORDER_EVENT.nested_high if nested else ORDER_EVENT.high]
                steps = 0
                d = c
                while steps < (BEGIN_STEPS if begin else STEPS) and tries < MAX_TRIES and reached < goal:
                    d = d + 1 if later else d - 1
                    if d < oldest or d >= goal:
                        break
                    z = events[order[d]]
                    if z[column] == y[column]:
                        low = max(low, z[ORDER_EVENT.low])
                        high = min(high, z[ORDER_EVENT.high])
                        continue
                    if (later and z[ORDER_EVENT.low] >= high) or (not later and low >= z[ORDER_EVENT.high]):
                        break
                    steps += 1
                    tries += 1
                    move[MOVE.first] = min(c, d)
                    move[MOVE.last] = max(c, d)
                    move[MOVE.column] = column
                    move[MOVE.group] = y[column]
                    move[MOVE.front] = 1 - later
                    got = agrees_until(search, wrong, goal)
                    if got > reached:
                        reached = got
                        for i in range(MOVE.width):
                            search.best[i] = move[i]
    search.found[FOUND.tries] += tries
    return reached > wrong
