"""What ``fastalloc trace info --by`` prints: who holds the memory, leak suspects, the pin ledger."""

from typing import TYPE_CHECKING

from fastalloc.errors import printable

if TYPE_CHECKING:
    import polars as pl

    from fastalloc.trace.compact.holders import Held

SUSPECTS = 10
PINS = 10
SELDOM = ("live_at_peak", "bytes_wasted", "allocs", "bytes_at_end", "frees", "bytes_requested", "ping_pong", "objects")


def print_holders(found: "Held", by: str, top: int) -> None:
    """Tables of ``found``, the largest first."""
    from fastalloc.terminal import console

    out = console()
    when = f"{found.peak_ns / 1e9:,.3f} s of its clock"
    out.print(f"most bytes live at once of what the trace allocated: {found.peak_bytes:,}, at {when}")
    _table(
        found.rows.head(top),
        {
            by: "holder", "allocs": "allocs", "frees": "frees", "bytes requested": "bytes_requested",
            "allocated": "bytes_allocated", "wasted": "bytes_wasted", "ping-pong": "ping_pong",
            "live at peak": "live_at_peak", "at end": "live_at_end", "bytes at end": "bytes_at_end",
        },
    )  # fmt: skip
    if len(found.rows) > top:
        out.print(f"... and {len(found.rows) - top} more; --json lists all")
    if len(found.suspects):
        out.print("\nleak suspects: objects older than any that was freed; how many more a second, 95 % interval")
        for row in found.suspects.head(SUSPECTS).iter_rows(named=True):
            out.print(
                printable(
                    f"{row['growth']:>10,.1f} ({row['growth_low']:,.1f}-{row['growth_high']:,.1f}) "
                    f"{row['outlived']:>8,} of {row['allocs']:,}, {row['outlived_bytes']:,} bytes  {row['holder']}"
                )
            )
    if len(found.pins):
        out.print(
            "\npin ledger: slabs allocated here, a quarter full or less at the end, and what moving would give back"
        )
        _table(
            found.pins.head(PINS),
            {
                "cache": "cache", "kept by": "holder", "slabs": "slabs", "objects": "objects", "bytes": "bytes_held",
                "used": "bytes_used", "given back": "bytes_given_back",
            },
        )  # fmt: skip


def _table(rows: "pl.DataFrame", columns: dict[str, str]) -> None:
    from fastalloc.terminal import Table, console

    table = Table()
    for title, name in columns.items():
        rank = SELDOM.index(name) + 1 if name in SELDOM else 0
        table.add_column(title, justify="left" if name in ("holder", "cache") else "right", no_wrap=True, rank=rank)
    for row in rows.select(columns.values()).iter_rows():
        table.add_row(*(printable(value) if isinstance(value, str) else f"{value:,}" for value in row))
    table.put(console())
