"""The verdict: a row a variant, and one sentence that says what happened."""

from typing import Any, NamedTuple

import polars as pl

from fastalloc.errors import reading
from fastalloc.plural import plural
from fastalloc.report.statistics import told_share, with_reason
from fastalloc.report.zones import kernel_zone
from fastalloc.store import Dataset

LIVELOCKED = pl.col("livelock_5s") == 1
EXHAUSTED = ~LIVELOCKED & (pl.col("oom") > 0)
# Slower than the longest nap of reclaim, which is HZ/10 [congestion_wait], or no command started for a second.
SLOW = ~LIVELOCKED & ~EXHAUSTED & ((pl.col("stall_ms") > 1000) | (pl.col("busy_ms") > 100 * pl.col("commands")))
DONE = ("pages_copied", "anonymous_pages", "files_copied", "noise_allocations", "noise_failures", "commands")
STATE = (
    pl.when(LIVELOCKED).then(pl.lit("livelocked"))
    .when(EXHAUSTED).then(pl.lit("exhausted"))
    .when(SLOW).then(pl.lit("slow"))
    .otherwise(pl.lit("healthy"))
)  # fmt: skip


class Verdict(NamedTuple):
    """What became of the lanes of one variant. Means are over lanes; rates are over simulated time."""

    variant: str
    title: str
    lanes: int
    sim_s: float  # simulated, of a lane
    livelocked_5s: int  # lanes in which a livelock lasted more than 5 s
    livelocked_5s_interval: tuple[float, float] | None  # Wilson, 95 %, as a proportion; None of a single lane
    livelocked_60s: int
    livelocked_60s_interval: tuple[float, float] | None  # from none to all of the lanes that were cut off
    livelocked_60s_cut: int  # lanes whose livelock was younger than 60 s when the run ended: nobody knows
    exhausted: int  # lanes without a livelock in which reclaim got nothing and nothing was free: a kernel would kill
    slow: int  # lanes with neither whose commands take more than 100 ms, or were not started for more than a second
    longest_livelock_s: float
    longest_stall_s: float  # no command started while pages were under writeback
    sense_failures: float  # mean of a lane
    reports: float  # mean of a lane
    free_list_used: float  # mean of a lane
    swapped_out_per_s: float  # pages
    max_writeback: int  # pages
    max_slab_pages: int
    deepest: str  # reserve
    sentence: str
    broken: int = 0  # lanes that have no result, since a guard or an invariant failed
    rules: str = ""  # whose kernel's ran; datasets of before have none
    page_kb: int = 4


def verdicts(dataset: Dataset) -> list[Verdict]:
    """A verdict for each variant that has a finished lane, in the order they were run.

    Raises:
        InputError: a file of runs/ cannot be read.
    """
    with reading(dataset.path, "runs"):
        runs = dataset.runs.collect()
    found = []
    for variant in dataset.manifest["variants"]:
        rows = runs.filter(pl.col("variant") == variant["name"])
        if not rows.is_empty():
            broken = sum(lane["variant"] == variant["name"] for lane in dataset.manifest.get("broken", []))
            found.append(_verdict(variant, rows, dataset.manifest["depths"])._replace(broken=broken))
    return found


def verdict_rows(found: list[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as plain data for JSON."""
    return [
        with_reason({name: list(v) if isinstance(v, tuple) else v for name, v in row._asdict().items()}, row.lanes)
        for row in found
    ]


def shows_60s(found: list[Verdict]) -> bool:
    """Whether the run was long enough to tell of a livelock of more than 60 s: it showed one, or cut none off."""
    if any(verdict.livelocked_60s for verdict in found):
        return True
    return all(verdict.sim_s > 60 and verdict.livelocked_60s_cut == 0 for verdict in found)


def _verdict(variant: dict[str, Any], rows: pl.DataFrame, depths: list[str]) -> Verdict:
    lanes = len(rows)
    cut = int(rows.select(((pl.col("livelock_60s") == 0) & (pl.col("livelock_open") > 0)).sum()).item())
    total = rows.sum().row(0, named=True)
    most = rows.max().row(0, named=True)
    sim_s = total["sim_ms"] / 1000
    verdict = Verdict(
        variant=variant["name"],
        title=variant["title"],
        lanes=lanes,
        sim_s=sim_s / lanes,
        livelocked_5s=total["livelock_5s"],
        livelocked_5s_interval=told_share(total["livelock_5s"], lanes),
        livelocked_60s=total["livelock_60s"],
        livelocked_60s_interval=_cut_share(total["livelock_60s"], cut, lanes),
        livelocked_60s_cut=cut,
        exhausted=_count(rows, EXHAUSTED),
        slow=_count(rows, SLOW),
        longest_livelock_s=most["livelock_ms"] / 1000,
        longest_stall_s=most["stall_ms"] / 1000,
        sense_failures=total["sense_fail"] / lanes,
        reports=total["reports"] / lanes,
        free_list_used=total["free_list_used"] / lanes,
        swapped_out_per_s=total["pages_swapped_out"] / sim_s if sim_s else 0.0,
        max_writeback=most["max_writeback"],
        max_slab_pages=most["max_slab_pages"],
        deepest=depths[most["deepest"]],
        sentence="",
        rules=variant.get("rules", ""),
        page_kb=int(most.get("machine.page_kb") or 4),
    )
    return verdict._replace(sentence=_sentence(verdict, rows, total))


def _cut_share(hits: int, cut: int, lanes: int) -> tuple[float, float] | None:
    """The interval of a share of which ``cut`` lanes are not known: from none to all of them."""
    least, most = told_share(hits, lanes), told_share(hits + cut, lanes)
    return (least[0], most[1]) if least and most else None


def _sentence(verdict: Verdict, rows: pl.DataFrame, total: dict[str, Any]) -> str:
    """What happened, from the metrics alone."""
    if verdict.livelocked_5s:
        return _livelock_sentence(verdict, rows) + (
            f" {_exhausted_sentence(verdict, rows)}" if verdict.exhausted else ""
        )
    if verdict.exhausted:
        return _exhausted_sentence(verdict, rows)
    if total["pages_swapped_out"] == 0:
        if not any(total[name] for name in DONE):
            return f"No task did anything within {verdict.sim_s:g} s, so this run tells nothing about memory."
        return "Memory never ran short enough to swap a page out."
    calm = _stall_words(verdict)
    if verdict.slow:
        each = total["busy_ms"] / max(1, total["commands"])
        calm = f"{verdict.slow} of {verdict.lanes} lanes are slow but go on: a command takes {each:,.0f} ms, and {calm}"
    if total["sense_fail"] == 0:
        own = any(rows[f"policy.{field}"].any() for field in ("slub_nomerge", "sense_ctor", "nomerge_sense"))
        why = ": sense buffers sit in slabs of their own" if own else ""
        zone = kernel_zone(rows.row(0, named=True))
        least = int(rows.select(pl.min(f"min_free_{zone.lower()}")).item())
        return f"No sense failure{why}; {calm}, though zone {zone} fell to {plural(least, 'free page')}."
    used, failed, empty = total["free_list_used"], total["sense_fail"], total["free_list_empty"]
    told = plural(failed, "sense failure")
    if used == 0:
        return f"{told}, none with the device idle for long; {calm}."
    waited = f", {plural(empty, 'attempt')} found it empty and waited for the command in flight" if empty else ""
    return f"{told}; the free_list served {used:,}{waited}; {calm}."


def _count(rows: pl.DataFrame, state: pl.Expr) -> int:
    return int(rows.select(state.sum()).item())


def _exhausted_sentence(verdict: Verdict, rows: pl.DataFrame) -> str:
    """Lanes that ran out of memory: when, and what a kernel does then [__alloc_pages: out_of_memory]."""
    lanes = rows.filter(EXHAUSTED)
    swap = int(lanes.select(pl.max("machine.swap_pages")).item())
    why = "there is no swap" if swap == 0 else f"all {swap:,} pages of swap are in use"
    if swap and int(lanes.select(pl.max("pages_swapped_out")).item()) < swap:
        why = "no page could be reclaimed"
    first = lanes.select(pl.min("oom_ms")).item() / 1000
    return (
        f"{verdict.exhausted} of {verdict.lanes} lanes ran out of memory, the first after {first:.1f} s: {why}, "
        "reclaim freed nothing, and no zone was above its high mark. A real kernel would kill here; the simulated one "
        "has no OOM killer, and its tasks only try again."
    )


def _livelock_sentence(verdict: Verdict, rows: pl.DataFrame) -> str:
    locked = rows.filter(pl.col("livelock_5s") == 1)
    median = locked.select(pl.col("^at_.*$").median()).row(0, named=True)
    rate = median["at_sense_fail_5s"] / 5
    open_ = int(locked["livelock_open"].sum())
    ended = f"{open_} of them to the end of the run" if open_ else "but it ended by itself"
    if open_ == len(locked):
        ended = "to the end of the run"
    spare = locked["free_list_used"].sum()
    unused = "the free_list was used once" if spare == 1 else f"the free_list was used {spare:,} times"
    if spare == 0:
        set_aside = int(locked.select(pl.max("host.free_list")).item())
        unused = "while the command on the free_list was never used" if set_aside else "while the free_list is empty"
    return (
        f"{verdict.livelocked_5s} of {verdict.lanes} lanes livelocked, {ended}: {median['at_commands']:.0f} commands "
        f"in flight, {median['at_writeback']:,.0f} pages under writeback, {median['at_bio_free_slots']:,.0f} free "
        f"slots in the {median['at_bio_slabs']:,.0f} slabs that hold bios, {rate:.0f} sense failures "
        f"a second, {unused}."
    )


def _stall_words(verdict: Verdict) -> str:
    if verdict.longest_stall_s < 1:
        return "no stall of writeback lasted a second"
    return f"the longest stall was {verdict.longest_stall_s:.1f} s"
