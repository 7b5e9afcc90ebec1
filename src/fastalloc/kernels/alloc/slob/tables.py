"""What a SLOB looks like at a moment: the rows of a golden case's ``node`` table. Plain Python, no kernel."""

from fastalloc.kernels.alloc.slob import slob as sl
from fastalloc.kernels.alloc.slob.ring import SLOB_CTL, SLOB_LISTS, SLOB_PAGE
from fastalloc.kernels.alloc.state import MEMCTL, ZONE

PAGE_LIST = 100  # pages that a row's page_list names


def slob_node_rows(mem, slob):
    """Rows by list name: pages, free_units, free_blocks, page_list ("ordinal:free units", head first).

    The last three names count pages only: ``all_slob_pages``, ``full_slob_pages`` and ``non_slob_pages`` (stub
    memory model: whatever else is in use).
    """
    rows = {}
    listed = 0
    for head, name in enumerate(SLOB_LISTS):
        pages, units, blocks = [], 0, 0
        p = int(slob.page[head, SLOB_PAGE.next])
        while p != head:
            pages.append(f"{slob.page[p, SLOB_PAGE.ordinal]}:{slob.page[p, SLOB_PAGE.units]}")
            units += int(slob.page[p, SLOB_PAGE.units])
            b = int(slob.page[p, SLOB_PAGE.free])
            while b < sl.PAGE_UNITS:
                blocks += 1
                b = int(sl.slob_next(slob.unit[p], b))
            p = int(slob.page[p, SLOB_PAGE.next])
        listed += len(pages)
        rows[name] = _row(len(pages), units, blocks, " ".join(pages[:PAGE_LIST]) or None)
    held = int(slob.ctl[SLOB_CTL.pages])
    used = int(mem.zone[: mem.ctl[MEMCTL.nr_nodes], ZONE.used].sum())
    rows["all_slob_pages"] = _row(held)
    rows["full_slob_pages"] = _row(held - listed)
    rows["non_slob_pages"] = _row(used - held)
    return rows


def _row(pages, free_units=None, free_blocks=None, page_list=None):
    return {"pages": pages, "free_units": free_units, "free_blocks": free_blocks, "page_list": page_list}
