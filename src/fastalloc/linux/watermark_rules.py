"""How each kernel from 2.6.9 decides whether a zone may give a page: the watermark check as data.

Every row names the step, the versions, the value and where the kernel has it. A row holds from a stable update on
where the rule came by one. ``rules_of`` gathers the rows of one release. Versions without a tree that was read
(2.6.10, 2.6.13 to 2.6.17, 2.6.19, 2.6.25, 5.1, 5.5, 5.13, 6.7, 6.15, 6.16) stand in the span around them.
"""

from typing import NamedTuple

from fastalloc.linux.release import Base, Release, Span, base_name, parse_base, span


class Row(NamedTuple):
    """One rule. ``step`` is the field of Rules that it sets."""

    step: str
    versions: Span
    value: str
    source: str
    stable: tuple[Base, int] | None = None  # holds from this update of this version on, whatever ``versions`` says

    @property
    def said(self) -> str:
        """The versions and the place in one line."""
        since = f"{base_name(self.stable[0])}.{self.stable[1]} and later of it" if self.stable else str(self.versions)
        return f"{since}: {self.source}"


class Rules(NamedTuple):
    """The decisions of one release.

    ``taken``: pages taken off before the comparison. ``order_check``: what is asked above order 0. ``harder``: who
    gets HARDER (from 6.3 NON_BLOCK). ``cma``: where free CMA pages are taken off. ``highatomic``: the pages kept for
    high-order atomic requests. ``class_zone``: whose lowmem_reserve counts.
    """

    taken: str
    high: str
    harder: str
    discount: str
    order_check: str
    cma: str
    highatomic: str
    highatomic_for: str
    fast: str
    boost_retry: str
    class_zone: str
    memalloc: str
    victim: str
    order0_highatomic: str
    oom_min: str
    letters: str


_ALLOC = "mm/page_alloc.c: "


def _row(step: str, first: str, last: str, value: str, function: str, stable: str = "") -> Row:
    update = None
    if stable:
        base, _, number = stable.rpartition(".")
        update = (parse_base(base), int(number))
    versions = span(first, last) if first else Span((0, 0, 0), (0, 0, 0))
    return Row(step, versions, value, _ALLOC + function, update)


ROWS: tuple[Row, ...] = (
    # Pages taken off free for the order: free >= min + 2^order is free - (2^order - 1) > min.
    _row("taken", "2.6.9", "2.6.10", "order - 1", "__alloc_pages"),
    _row("taken", "2.6.11", "2.6.37", "order - 1", "zone_watermark_ok"),
    _row("taken", "2.6.38", "3.2", "order + 1", "__zone_watermark_ok"),  # the sign slipped: two pages too many
    _row("taken", "3.3", "7.3", "order - 1", "__zone_watermark_ok"),
    # The half that __GFP_HIGH may use: min / 2 rounds down, min -= min / 2 up.
    _row("high", "2.6.9", "2.6.10", "floor", "__alloc_pages"),
    _row("high", "2.6.11", "7.3", "ceil", "zone_watermark_ok"),
    # Who gets HARDER.
    _row("harder", "2.6.9", "2.6.37", "no wait", "__alloc_pages, gfp_to_alloc_flags"),
    _row("harder", "2.6.38", "3.15", "no wait, no NOMEMALLOC", "gfp_to_alloc_flags"),
    _row("harder", "3.16", "4.3", "no wait, no NO_KSWAPD, no NOMEMALLOC", "gfp_to_alloc_flags"),
    _row("harder", "4.4", "6.2", "ATOMIC, no NOMEMALLOC", "gfp_to_alloc_flags"),
    _row("harder", "6.3", "7.3", "NON_BLOCK", "gfp_to_alloc_flags"),
    _row("harder", "", "", "NON_BLOCK", "gfp_to_alloc_flags", stable="6.1.116"),
    # What the flags take off the mark.
    _row("discount", "2.6.9", "6.2", "HIGH half, HARDER quarter", "zone_watermark_ok"),
    _row("discount", "6.3", "7.3", "MIN_RESERVE half, then NON_BLOCK quarter", "__zone_watermark_ok"),
    _row("discount", "", "", "MIN_RESERVE half, then NON_BLOCK quarter", "__zone_watermark_ok", stable="6.1.116"),
    # Above order 0.
    _row("order_check", "2.6.9", "2.6.10", "none", "__alloc_pages"),
    _row("order_check", "2.6.11", "4.3", "loop", "zone_watermark_ok"),
    _row("order_check", "4.4", "7.3", "lists", "__zone_watermark_ok"),
    # Which letters satisfy the lists besides U, M, E (and C with ALLOC_CMA).
    _row("letters", "2.6.9", "4.3", "any", "buffered_rmqueue"),
    _row("letters", "4.4", "4.14", "any for HARDER", "__zone_watermark_ok"),
    _row("letters", "4.15", "6.2", "H for HARDER", "__zone_watermark_ok"),
    _row("letters", "", "", "H for HARDER", "__zone_watermark_ok", stable="4.9.80"),  # first update not read
    _row("letters", "", "", "H for HARDER", "__zone_watermark_ok", stable="4.14.177"),  # first update not read
    _row("letters", "6.3", "7.3", "H for HIGHATOMIC", "__zone_watermark_ok"),
    _row("letters", "", "", "H for HIGHATOMIC", "__zone_watermark_ok", stable="6.1.116"),
    # Free CMA pages, unless the mask is movable.
    _row("cma", "2.6.9", "3.6", "none", "zone_watermark_ok"),
    _row("cma", "3.7", "3.9", "check and loop", "__zone_watermark_ok"),
    _row("cma", "3.10", "4.3", "check", "__zone_watermark_ok"),
    _row("cma", "4.4", "7.3", "check", "__zone_watermark_ok"),
    # Pages kept for high-order atomic requests.
    _row("highatomic", "2.6.9", "4.3", "none", "zone_watermark_ok"),
    _row("highatomic", "4.4", "6.11", "reserved", "__zone_watermark_ok, __zone_watermark_unusable_free"),
    _row("highatomic", "6.12", "7.3", "free", "__zone_watermark_unusable_free"),
    # Who may count them in.
    _row("highatomic_for", "2.6.9", "4.3", "all", "zone_watermark_ok"),
    _row("highatomic_for", "4.4", "6.2", "HARDER", "__zone_watermark_ok"),
    _row("highatomic_for", "6.3", "7.3", "RESERVES", "__zone_watermark_unusable_free"),
    _row("highatomic_for", "", "", "RESERVES", "__zone_watermark_unusable_free", stable="6.1.116"),
    # ALLOC_HIGHATOMIC of a non-blocking request above order 0: of every one, or of those with __GFP_HIGH.
    _row("order0_highatomic", "2.6.9", "6.10", "no", "rmqueue_buddy"),
    _row("order0_highatomic", "6.11", "7.3", "NON_BLOCK", "rmqueue_buddy"),
    _row("order0_highatomic", "", "", "NON_BLOCK", "rmqueue_buddy", stable="6.1.116"),
    # The short cut for order 0.
    _row("fast", "2.6.9", "4.6", "none", "zone_watermark_ok"),
    _row("fast", "4.7", "5.8", "without highatomic", "zone_watermark_fast"),
    _row("fast", "5.9", "7.3", "none", "zone_watermark_fast"),  # subtracts the same as the full check
    # Order 0 that failed at min with a boost: tried again without the boost.
    _row("boost_retry", "2.6.9", "5.8", "none", "zone_watermark_fast"),
    _row("boost_retry", "5.9", "6.2", "ATOMIC", "zone_watermark_fast"),
    _row("boost_retry", "6.3", "7.3", "MIN_RESERVE", "zone_watermark_fast"),
    # Whose lowmem_reserve counts.
    _row("class_zone", "2.6.9", "5.7", "first populated", "get_page_from_freelist, ac_classzone_idx"),
    _row("class_zone", "5.8", "7.3", "gfp_zone", "prepare_alloc_pages"),
    # Who is asked for no mark at all.
    _row("memalloc", "2.6.9", "2.6.11", "PF_MEMALLOC", "__alloc_pages"),
    _row("memalloc", "2.6.12", "3.5", "PF_MEMALLOC, no NOMEMALLOC", "gfp_to_alloc_flags"),
    _row("memalloc", "3.6", "7.3", "MEMALLOC or PF_MEMALLOC, no NOMEMALLOC", "__gfp_pfmemalloc_flags"),
    # An OOM victim.
    _row("victim", "2.6.9", "4.13", "no mark", "gfp_to_alloc_flags, gfp_pfmemalloc_allowed"),
    _row("victim", "4.14", "7.3", "half", "__gfp_pfmemalloc_flags"),
    # Before a kill: one try at the high mark, without discount and without ALLOC_CMA.
    # (2.6.9, 2.6.10: try_to_free_pages calls out_of_memory itself, without another try [mm/vmscan.c].)
    _row("oom_min", "2.6.9", "2.6.10", "none", "__alloc_pages"),
    _row("oom_min", "2.6.11", "7.3", "high", "__alloc_pages_may_oom"),
)

# From these on ALLOC_HIGHATOMIC asks for __GFP_HIGH (6.3 to 6.17: every non-blocking request above order 0).
HIGHATOMIC_NEEDS_HIGH = (Row("", span("6.18", "7.3"), "HIGH", _ALLOC + "gfp_to_alloc_flags"),)
HIGHATOMIC_STABLE: tuple[tuple[Base, int], ...] = (((6, 12, 0), 54), ((6, 1, 0), 157))
# Fields of a report that a decision goes by, and the version whose decision was the first to.
DECIDED_BY = {"reserved_highatomic": "4.4", "boost": "5.0", "free_highatomic": "6.12"}
# Versions without a tree that was read.
UNREAD: frozenset[Base] = frozenset(
    map(
        parse_base,
        (
            "2.6.10",
            *(f"2.6.{third}" for third in (13, 14, 15, 16, 17, 19, 25)),
            "5.1",
            "5.5",
            "5.13",
            "6.7",
            "6.15",
            "6.16",
        ),
    )
)
# The first comparison is unsigned: a negative rest passes it, and the order loop refuses.
UNSIGNED = span("2.6.11", "3.5")
# zone_watermark_fast subtracts without a clamp: free below unusable wraps and passes.
UNSIGNED_FAST = span("5.9", "5.18")
# nr_reserved_highatomic exists and is not printed; from 6.12 to 6.14 its free part is what counts and is not printed.
HIGHATOMIC_UNPRINTED = span("4.4", "5.5")
FAST_WITHOUT: Base = (4, 7, 0)  # from here order 0 is first asked without it, at the full mark (to 5.8)
HIGHATOMIC_BOUND = span("6.12", "6.14")
# The mark holds a boost that the report does not print.
BOOST_UNPRINTED = span("5.0", "5.15")
# NR_UNACCEPTED is taken off too and is not printed.
UNACCEPTED = span("6.5", "6.10")


def rows_of(release: Release) -> dict[str, Row]:
    """The rule of each step that holds for a release, with where the kernel has it."""
    chosen: dict[str, Row] = {}
    for row in ROWS:
        if row.stable is None:
            if release.base in row.versions:
                chosen[row.step] = row
        elif release.at_least(*row.stable):
            chosen[row.step] = row
    return chosen


def rules_of(release: Release) -> Rules:
    """The rules by which a release decides."""
    return Rules(**{step: row.value for step, row in rows_of(release).items()})


def highatomic_needs_high(release: Release) -> bool:
    """True where ALLOC_HIGHATOMIC goes to callers with __GFP_HIGH alone."""
    if any(release.base in row.versions for row in HIGHATOMIC_NEEDS_HIGH):
        return True
    return any(release.at_least(base, number) for base, number in HIGHATOMIC_STABLE)
