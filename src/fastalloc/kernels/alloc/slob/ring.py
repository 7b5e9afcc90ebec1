"""SLOB's lists of partly free pages as rings, cut into stretches that a search passes over in one step.

Linux walks a list page by page. What it would find is the same when a stretch of neighbours none of which can serve
is left out: pages, stretches and lists remember the most units that a request could hope for. That is too many at
times, never too few; freeing raises it, a walk in vain brings it down.
"""

from fastalloc.compiler.jit import kernel

# page[p, .]; records 0, 1, 2 are the heads of the small, medium and large list
B_NEXT = 0
B_PREV = 1
B_STRETCH = 2
B_UNITS = 3  # free units
B_MOST = 4  # [FITS] no request of more units can be served at an alignment; of a head: by its whole list
B_FREE = 7  # first free block
B_ON_LIST = 8  # 1 + its list, 0 on none
B_PFN = 9
B_NODE = 10
B_ORDINAL = 11  # -1 until a trace operation returned an object of it
B_BUYER = 12  # who asked when it was bought
B_DEPTH = 13  # at which depth
B_ROOM = 14  # how many requests of B_ROOM_OF the free blocks could serve
B_ROOM_OF = 15  # PAGE_UNITS * units + the step of their places; 0 after a change
SLOB_PAGE_FIELDS = 16  # a cache line
SLOB_LISTS = ("small", "medium", "large")
FIRST_PAGE = len(SLOB_LISTS)

# Alignments that have a bound of their own; FIT_ANY holds for every alignment
FIT_ANY = 0
FIT_KMALLOC = 1
FIT_LINE = 2
FITS = 3

# stretch[s, .]; a stretch has at least one record, the head of the list counts as one
S_FIRST = 0
S_NEXT = 1  # of a ring, or of the unused ones
S_PREV = 2
S_RECORDS = 3
S_MOST = 4  # [FITS] of its pages
STRETCH_FIELDS = 8
LONGEST = 32
SHORT = 8  # two neighbours as short as this become one

# slobctl[.], of the rings
O_STRETCHES = 6  # used so far
O_STRETCH_SPARE = 11  # given up again, linked by S_NEXT


@kernel
def start_rings(page, stretch, ctl):
    """Three empty lists."""
    for head in range(FIRST_PAGE):
        page[head, B_NEXT] = page[head, B_PREV] = head
        page[head, B_STRETCH] = head
        stretch[head, S_FIRST] = head
        stretch[head, S_NEXT] = stretch[head, S_PREV] = head
        stretch[head, S_RECORDS] = 1
    ctl[O_STRETCHES] = FIRST_PAGE
    ctl[O_STRETCH_SPARE] = -1


@kernel
def raise_most(page, stretch, p, units, others):
    """A free block of ``units`` appeared in page ``p`` of a list; its other blocks have ``others`` units in all."""
    s = page[p, B_STRETCH]
    head = page[p, B_ON_LIST] - 1
    for fit in range(FITS):
        page[head, B_MOST + fit] = max(page[head, B_MOST + fit], units)
        page[p, B_MOST + fit] = max(min(page[p, B_MOST + fit], others), units)
        stretch[s, S_MOST + fit] = max(stretch[s, S_MOST + fit], units)


@kernel
def split(page, stretch, ctl, s):
    """Cut stretch ``s`` in two."""
    new = ctl[O_STRETCH_SPARE]
    if new >= 0:
        ctl[O_STRETCH_SPARE] = stretch[new, S_NEXT]
    else:
        new = ctl[O_STRETCHES]
        ctl[O_STRETCHES] += 1
    kept = stretch[s, S_RECORDS] // 2
    p = stretch[s, S_FIRST]
    for _ in range(kept):
        p = page[p, B_NEXT]
    stretch[new, S_FIRST] = p
    stretch[new, S_RECORDS] = stretch[s, S_RECORDS] - kept
    stretch[s, S_RECORDS] = kept
    for _ in range(stretch[new, S_RECORDS]):
        page[p, B_STRETCH] = new
        p = page[p, B_NEXT]
    for fit in range(FITS):
        stretch[new, S_MOST + fit] = stretch[s, S_MOST + fit]
    following = stretch[s, S_NEXT]
    stretch[new, S_NEXT] = following
    stretch[new, S_PREV] = s
    stretch[following, S_PREV] = new
    stretch[s, S_NEXT] = new


@kernel
def drop(stretch, ctl, s):
    """Take a stretch without records out of its ring."""
    stretch[stretch[s, S_PREV], S_NEXT] = stretch[s, S_NEXT]
    stretch[stretch[s, S_NEXT], S_PREV] = stretch[s, S_PREV]
    stretch[s, S_NEXT] = ctl[O_STRETCH_SPARE]
    ctl[O_STRETCH_SPARE] = s


@kernel
def join(page, stretch, ctl, s):
    """Make one stretch of ``s`` and the one behind it."""
    other = stretch[s, S_NEXT]
    p = stretch[other, S_FIRST]
    for _ in range(stretch[other, S_RECORDS]):
        page[p, B_STRETCH] = s
        p = page[p, B_NEXT]
    stretch[s, S_RECORDS] += stretch[other, S_RECORDS]
    for fit in range(FITS):
        stretch[s, S_MOST + fit] = max(stretch[s, S_MOST + fit], stretch[other, S_MOST + fit])
    drop(stretch, ctl, other)


@kernel
def link_page(page, stretch, ctl, p, after):
    """Insert record ``p``, a head or a page that serves nothing yet, behind record ``after`` [list_add]."""
    following = page[after, B_NEXT]
    page[p, B_NEXT] = following
    page[p, B_PREV] = after
    page[following, B_PREV] = p
    page[after, B_NEXT] = p
    s = page[after, B_STRETCH]
    page[p, B_STRETCH] = s
    stretch[s, S_RECORDS] += 1
    if stretch[s, S_RECORDS] > LONGEST:
        split(page, stretch, ctl, s)


@kernel
def unlink_page(page, stretch, ctl, p):
    """Take record ``p`` out of its ring, which keeps at least one record [list_del]."""
    following = page[p, B_NEXT]
    page[page[p, B_PREV], B_NEXT] = following
    page[following, B_PREV] = page[p, B_PREV]
    s = page[p, B_STRETCH]
    stretch[s, S_RECORDS] -= 1
    if stretch[s, S_RECORDS] == 0:
        drop(stretch, ctl, s)
        return
    if stretch[s, S_FIRST] == p:
        stretch[s, S_FIRST] = following
    behind = stretch[s, S_NEXT]
    if stretch[s, S_RECORDS] <= SHORT and stretch[behind, S_RECORDS] <= SHORT and behind != s:
        join(page, stretch, ctl, s)
