"""SLOB's lists of partly free pages as rings, cut into stretches that a search passes over in one step.

Linux walks a list page by page. What it would find is the same when a stretch of neighbours none of which can serve
is left out: pages, stretches and lists remember the most units that a request could hope for. That is too many at
times, never too few; freeing raises it, a walk in vain brings it down.
"""

from fastalloc.compiler.jit import kernel
from fastalloc.compiler.records import Record, columns, field

SLOB_LISTS = ("small", "medium", "large")
FIRST_PAGE = len(SLOB_LISTS)

# Alignments that have a bound of their own; FIT_ANY holds for every alignment
FIT_ANY = 0
FIT_KMALLOC = 1
FIT_LINE = 2
FITS = 3


class SLOB_PAGE(Record):
    """page[p, .]; records 0, 1, 2 are the heads of the small, medium and large list."""

    next = field("the page behind it on its list, or the next retired record")
    prev = field("the page before it on its list")
    stretch = field("the stretch of the list that it belongs to")
    units = field("free units")
    most = columns(FITS, "no request of more units can be served at an alignment; of a head: by its whole list")
    free = field("first free block")
    on_list = field("1 + its list, 0 on none")
    pfn = field("its page frame", "pfn")
    node = field("NUMA node of the page")
    ordinal = field("-1 until a trace operation returned an object of it")
    owner = field("who asked when it was allocated")
    depth = field("at which depth")
    room = field("how many requests of SLOB_PAGE.room_of the free blocks could serve")
    room_of = field("PAGE_UNITS * units + the step of their places; 0 after a change")


class SLOB_STRETCH(Record, width=8):
    """stretch[s, .]; a stretch has at least one record, the head of the list counts as one."""

    first = field("its first page record")
    next = field("of a ring, or of the unused ones")
    prev = field("the stretch before it in the ring")
    records = field("page records in it")
    most = columns(FITS, "of its pages")


LONGEST = 32
SHORT = 8  # two neighbours as short as this become one


class SLOB_CTL(Record):
    """slobctl[.], of the rings."""

    top = field("page records in use so far")
    spare = field("retired page records, linked by SLOB_PAGE.next")
    path = field(
        "path of the last operation: 0 failed, 1 no page moved, 4 a page was allocated, 6 a page was given back"
    )
    overflow = field("1: the arrays were too small; the lane's result is void")
    ordinals = field("pages numbered so far (golden cases)")
    pages = field("pages on the lists or full")
    stretches = field("used so far")
    ctor_calls = field("constructor runs so far")
    whole = field("pages of page-backed objects")
    max_pages = field("most pages of both kinds")
    locks = field("times that slob_lock was taken")
    stretch_spare = field("given up again, linked by SLOB_STRETCH.next")
    line = field("the alignment of FIT_LINE: the first one asked for that is not kmalloc's")


@kernel
def start_rings(page, stretch, ctl):
    """Three empty lists."""
    for head in range(FIRST_PAGE):
        page[head, SLOB_PAGE.next] = page[head, SLOB_PAGE.prev] = head
        page[head, SLOB_PAGE.stretch] = head
        stretch[head, SLOB_STRETCH.first] = head
        stretch[head, SLOB_STRETCH.next] = stretch[head, SLOB_STRETCH.prev] = head
        stretch[head, SLOB_STRETCH.records] = 1
    ctl[SLOB_CTL.stretches] = FIRST_PAGE
    ctl[SLOB_CTL.stretch_spare] = -1


@kernel
def raise_most(page, stretch, p, units, others):
    """A free block of ``units`` appeared in page ``p`` of a list; its other blocks have ``others`` units in all."""
    s = page[p, SLOB_PAGE.stretch]
    head = page[p, SLOB_PAGE.on_list] - 1
    for fit in range(FITS):
        page[head, SLOB_PAGE.most[fit]] = max(page[head, SLOB_PAGE.most[fit]], units)
        page[p, SLOB_PAGE.most[fit]] = max(min(page[p, SLOB_PAGE.most[fit]], others), units)
        stretch[s, SLOB_STRETCH.most[fit]] = max(stretch[s, SLOB_STRETCH.most[fit]], units)


@kernel
def split(page, stretch, ctl, s):
    """Cut stretch ``s`` in two."""
    new = ctl[SLOB_CTL.stretch_spare]
    if new >= 0:
        ctl[SLOB_CTL.stretch_spare] = stretch[new, SLOB_STRETCH.next]
    else:
        new = ctl[SLOB_CTL.stretches]
        ctl[SLOB_CTL.stretches] += 1
    kept = stretch[s, SLOB_STRETCH.records] // 2
    p = stretch[s, SLOB_STRETCH.first]
    for _ in range(kept):
        p = page[p, SLOB_PAGE.next]
    stretch[new, SLOB_STRETCH.first] = p
    stretch[new, SLOB_STRETCH.records] = stretch[s, SLOB_STRETCH.records] - kept
    stretch[s, SLOB_STRETCH.records] = kept
    for _ in range(stretch[new, SLOB_STRETCH.records]):
        page[p, SLOB_PAGE.stretch] = new
        p = page[p, SLOB_PAGE.next]
    for fit in range(FITS):
        stretch[new, SLOB_STRETCH.most[fit]] = stretch[s, SLOB_STRETCH.most[fit]]
    following = stretch[s, SLOB_STRETCH.next]
    stretch[new, SLOB_STRETCH.next] = following
    stretch[new, SLOB_STRETCH.prev] = s
    stretch[following, SLOB_STRETCH.prev] = new
    stretch[s, SLOB_STRETCH.next] = new


@kernel
def drop(stretch, ctl, s):
    """Take a stretch without records out of its ring."""
    stretch[stretch[s, SLOB_STRETCH.prev], SLOB_STRETCH.next] = stretch[s, SLOB_STRETCH.next]
    stretch[stretch[s, SLOB_STRETCH.next], SLOB_STRETCH.prev] = stretch[s, SLOB_STRETCH.prev]
    stretch[s, SLOB_STRETCH.next] = ctl[SLOB_CTL.stretch_spare]
    ctl[SLOB_CTL.stretch_spare] = s


@kernel
def join(page, stretch, ctl, s):
    """Make one stretch of ``s`` and the one behind it."""
    other = stretch[s, SLOB_STRETCH.next]
    p = stretch[other, SLOB_STRETCH.first]
    for _ in range(stretch[other, SLOB_STRETCH.records]):
        page[p, SLOB_PAGE.stretch] = s
        p = page[p, SLOB_PAGE.next]
    stretch[s, SLOB_STRETCH.records] += stretch[other, SLOB_STRETCH.records]
    for fit in range(FITS):
        stretch[s, SLOB_STRETCH.most[fit]] = max(
            stretch[s, SLOB_STRETCH.most[fit]], stretch[other, SLOB_STRETCH.most[fit]]
        )
    drop(stretch, ctl, other)


@kernel
def link_page(page, stretch, ctl, p, after):
    """Insert record ``p``, a head or a page that serves nothing yet, behind record ``after`` [list_add]."""
    following = page[after, SLOB_PAGE.next]
    page[p, SLOB_PAGE.next] = following
    page[p, SLOB_PAGE.prev] = after
    page[following, SLOB_PAGE.prev] = p
    page[after, SLOB_PAGE.next] = p
    s = page[after, SLOB_PAGE.stretch]
    page[p, SLOB_PAGE.stretch] = s
    stretch[s, SLOB_STRETCH.records] += 1
    if stretch[s, SLOB_STRETCH.records] > LONGEST:
        split(page, stretch, ctl, s)


@kernel
def unlink_page(page, stretch, ctl, p):
    """Take record ``p`` out of its ring, which keeps at least one record [list_del]."""
    following = page[p, SLOB_PAGE.next]
    page[page[p, SLOB_PAGE.prev], SLOB_PAGE.next] = following
    page[following, SLOB_PAGE.prev] = page[p, SLOB_PAGE.prev]
    s = page[p, SLOB_PAGE.stretch]
    stretch[s, SLOB_STRETCH.records] -= 1
    if stretch[s, SLOB_STRETCH.records] == 0:
        drop(stretch, ctl, s)
        return
    if stretch[s, SLOB_STRETCH.first] == p:
        stretch[s, SLOB_STRETCH.first] = following
    behind = stretch[s, SLOB_STRETCH.next]
    if stretch[s, SLOB_STRETCH.records] <= SHORT and stretch[behind, SLOB_STRETCH.records] <= SHORT and behind != s:
        join(page, stretch, ctl, s)
