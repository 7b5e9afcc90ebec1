"""Clean runs of the real 2.6.25-rc8: the rows of ``runs.csv``, and the scenario that stands for a row.

A clean run is a kernel on a CPU of one known cost an instruction (2**shift ns) and a disk of exact service times. Costs
were measured once, in free memory by one task or as CPU time less interrupts; no number here is fitted to a run's
outcome.
"""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.errors import InputError
from fastalloc.foreign import csv_rows
from fastalloc.forked import refuse_forked
from fastalloc.linux.watermarks import pcp_lists
from fastalloc.scenario import Scenario

RUNS = "runs.csv"
PARAMETERS = (
    "run",
    "shift",
    "smp",
    "mem",
    "fix",
    "secs",
    "min_free",
    "copiers",
    "writers",
    "writer_pages",
    "tree_files",
    "iops",
    "rate",
    "depth",
    "can_queue",
    "nr_requests",
    "swappiness",
    "spread",
    "obj_rate",
    "obj_ms",
    "page_rate",
    "page_ms",
    "nomerge",
    "hz",
    "sg",
)
TOLD = ("kwakes", "rqwaits", "bwaits", "tpages", "sensef")  # told, not judged; may be missing
COUNTERS = (
    "pswpout",
    "dispw",
    "pages_per_cmd",
    "wb_max",
    "wb_mean",
    "bio_slabs_max",
    "allocstall",
    "scan_per_out",
    "first_swap_s",
    "livelock",
)
MARKS = ("turn_us", "oom", "oops")  # what happened to a run; may be missing
TURN = "turn_us"  # a turn timer: one virtual CPU stood still there, so such a row is no reference
# What runs for an elevator of the kernel. deadline is not modelled, and rows of it say so. noop is nearest: both give a
# task no context on the queue, so no radix nodes with its first request; it sorts, and order does not matter here.
ELEVATORS = {"cfq": "cfq", "noop": "noop", "deadline": "noop"}
MOST_PAGES = 128  # of a command: max_sectors 1024
BLKDEV_MIN_RQ = 4  # nr_requests is raised to it [block/blk-sysfs.c: queue_requests_store]
SHIFTS = range(11)  # that QEMU's -icount takes

# ns at shift 1, measured in rc8-s1 (u_*: one task with free memory; c_*: CPU time less interrupts and other tasks).
# wake: half of what a sleep of one second takes beyond its second (u_sleep1s, 3,958 ns), which is a switch away, the
# timer's interrupt, a wake-up and a switch back. rcu_callback: what is left of the CPU's time before memory is full
# when all else is taken off, over the files closed, dentries and radix nodes freed until then: 640 to 720 in
# rc8-writers0, -s1, -s2, -slow-s1, -mem1024 and -copiers12.
COSTS = {
    "copy_page": 7650,
    "create_file": 5900,
    "fault_page": 2820,
    "remove_page": 2300,
    "unmap_page": 1070,
    "rcu_callback": 680,
    "scan_page": 900,
    "reclaim_page": 600,
    "swap_page": 3300,
    "submit_bio": 600,
    "dispatch": 16000,
    "irq": 3000,
    "end_bio": 1530,
    "wake": 1979,
    "swap_cache": 1900,
    "swap_slot": 14,
    "swap_lock": 140,  # 70 instructions
}

# What boot leaves free of DMA32, by MB of memory: the first sample of a run with its radix nodes still to be freed and
# the pages of the workload's parent counted as free. Boot takes 903, 976, 1,382 and 1,128 pages: not more of more
# memory, so sizes between are not read off these, and nothing else tells them.
DMA_PRESENT = 3458
DMA_FREE = 3544
DMA32_FREE = {128: 27377, 256: 59624, 512: 123858, 1024: 253392}
# Slabs after boot: s_bio and s_radix of the first samples. Objects in use there. kmalloc-128: rc8-copiers0 holds 1,134
# to 3,726 bios in slabs with room for 48 to 51 more. kmalloc-16: the same run, without pages, gets biovecs for 54 bios
# and is refused more. Radix nodes: the 11 of init's io context, whose reads found the disk and its swap, and one for
# init's file of some 50 pages.
BOOT_SLABS = [
    {"cache": "kmalloc-128", "slabs": 5, "in_use": 45},
    {"cache": "kmalloc-16", "slabs": 1, "in_use": 202},
    {"cache": "radix_tree_node", "slabs": 5, "in_use": 12},
]
STRUCT_PAGE = 56  # bytes
PAGE = 4096
DMA_PAGES = 4096
RESERVE_RATIO = 256  # lowmem_reserve_ratio of the DMA zone
# Pages that a task holds for itself (stack, page tables, locked text and data): rc8-s1 beside rc8-copiers0 at 0.5 s
COPIER_PAGES = 33
WRITER_PAGES = 27
# Of these the ones that mlockall has on the active list, by the active lists of rows with 6 to 102 tasks: 162 pages
# with 6, 1,172 with 48, 1,322 with 54, 2,472 with 102. 22 are init's, which DMA32_FREE counts as free. Without mlockall
# 21 of a task's pages are never touched (faults and active list of rc8-nolock); the rest stays, but on no list.
LOCKED_PAGES = 24  # a task
INIT_PAGES = 22
MLOCKALL_FAULTS = 21
SHMEM_INODE = {"name": "shmem_inode_cache", "object_size": 728, "ctor": True}  # 736 a slot, 5 a page
PAGE_TABLE = 512  # pages that a page of a page table maps


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``runs.csv``, in its order.

    Raises
    ------
    InputError
        Not a table, or a column that the checks need is not there.
    """
    refuse_forked(str(path))
    frame = csv_rows(path, typed=True, whole=True)
    missing = [name for name in (*PARAMETERS, *COUNTERS) if name not in frame.columns]
    if missing:
        raise InputError(path, "header", f"expected columns that are not there: {', '.join(missing)}")
    rows = list(frame.with_columns(pl.col("run").cast(pl.String)).iter_rows(named=True))
    if not rows:
        raise InputError(path, "", "holds no run")
    lines: dict[str, int] = {}
    for i, row in enumerate(rows):
        line = f"line {i + 2}: "
        if row["run"] is None:
            raise InputError(path, f"{line}run", "expected a name")
        if row["run"] in lines:
            raise InputError(path, f"{line}run", f"{row['run']!r} is the name of line {lines[row['run']]} too")
        lines[row["run"]] = i + 2
        for name in PARAMETERS[1:]:
            if not isinstance(row[name], int):
                raise InputError(path, line + name, f"expected a whole number, not {row[name]!r}")
        for name in (*COUNTERS, *(name for name in (*TOLD, *MARKS) if name in row)):
            if row[name] is not None and not (isinstance(row[name], (int, float)) and isfinite(row[name])):
                raise InputError(path, line + name, f"expected a number, not {row[name]!r}")
        if row["shift"] not in SHIFTS:
            raise InputError(path, f"{line}shift", f"expected 0 to {SHIFTS[-1]}, not {row['shift']}")
        if row.get("mlock", 1) not in (0, 1):
            raise InputError(path, f"{line}mlock", f"expected 0 or 1, not {row['mlock']!r}")
        if row.get("elevator", "cfq") not in ELEVATORS:
            known = ", ".join(ELEVATORS)
            raise InputError(path, f"{line}elevator", f"expected one of {known}, not {row['elevator']!r}")
    return rows


def find_runs(root: Path) -> list[Path]:
    """Tables of clean runs at or below ``root``, in path order: a ``runs.csv`` that counts pages swapped out."""
    found = []
    for path in sorted(root.rglob(RUNS)) if root.is_dir() else [root]:
        if path.name == RUNS and path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                if "pswpout" in file.readline().strip().split(","):
                    found.append(path)
    return found


def is_reference(row: Mapping[str, Any]) -> bool:
    """Whether the row shows the kernel alone and to its end, not the turn timer of its emulator, nor a kernel that
    broke."""
    return not row.get(TURN) and row.get("ended") in (None, True) and not row.get("oops")


def not_modelled(row: Mapping[str, Any]) -> str:
    """What of the row's machine has no model, and what runs in its place; empty where all has one."""
    asked = row.get("elevator", "cfq")
    return "" if ELEVATORS[asked] == asked else f"elevator {asked}: not modelled, run as {ELEVATORS[asked]}"


def dma32_present(megabytes: int) -> int:
    """Pages of DMA32 less its memory map [free_area_init_core]."""
    spanned = megabytes * 256 - DMA_PAGES
    return spanned - -(-spanned * STRUCT_PAGE // PAGE)


def zones(row: Mapping[str, Any], path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The machine's zones and what is free in them when the workload starts."""
    if row["mem"] not in DMA32_FREE:
        known = ", ".join(str(megabytes) for megabytes in DMA32_FREE)
        raise InputError(
            path,
            f"{row['run']}: mem",
            f"what boot leaves free of {row['mem']} MB is not known: it was measured at {known} MB alone, and no rule "
            "gives it",
        )
    present = dma32_present(row["mem"])
    own = row["copiers"] * COPIER_PAGES + row["writers"] * (WRITER_PAGES + row["writer_pages"] // PAGE_TABLE)
    own -= tasks_of(row) * (LOCKED_PAGES if row.get("mlock", 1) else MLOCKALL_FAULTS)  # locked ones: by the lane itself
    batch, high = pcp_lists(present, 0, 1, (2, 6, 25))
    marks = {"min": 0, "low": 0, "high": 0}
    dma = {"name": "DMA", "present": DMA_PRESENT, "protection": [0, present // RESERVE_RATIO], **marks}
    dma32 = {"name": "DMA32", "present": present, "protection": [0, 0], **marks}
    described = [dma | {"pcp_high": 0, "pcp_batch": 1}, dma32 | {"pcp_high": high, "pcp_batch": batch}]
    return described, {"DMA": DMA_FREE, "DMA32": DMA32_FREE[row["mem"]] - own}


def tasks_of(row: Mapping[str, Any]) -> int:
    """Copiers and writers."""
    return int(row["copiers"] + row["writers"])


def locked_pages(row: Mapping[str, Any]) -> int:
    """Pages that stay on the active list from the beginning."""
    return INIT_PAGES + LOCKED_PAGES * tasks_of(row) if row.get("mlock", 1) else 0


def in_jiffies(ms: int, hz: int) -> int:
    """``ms`` as a timer has it, in ms: rounded up to whole jiffies, one at least. A timer gives back what noise took
    [kernel/time.c: msecs_to_jiffies]."""
    return round(max(1, -(-ms * hz // 1000)) * 1000 / hz) if hz > 0 else ms


def scenario_of(row: Mapping[str, Any], base: Scenario, path: Path) -> Scenario:
    """The scenario that stands for a run.

    Args:
        row: of ``read_runs``.
        base: the preset ``swap-livelock``; machine, load, disk, queue and costs are replaced by the run's.
        path: the table, for errors.

    Raises:
        InputError: the run's parameters describe no machine that is known here.
    """
    described, free = zones(row, path)
    settings: dict[str, Any] = {
        "machine.cpus": row["smp"],
        "machine.hz": row["hz"],
        "machine.zones": described,
        "machine.free_pages": free,
        "machine.min_free_kbytes": row["min_free"],
        "machine.boot_slabs": BOOT_SLABS,
        "machine.slab_caches": [SHMEM_INODE],
        "machine.huge_pages": False,
        "machine.shared_core": True,  # under -icount all CPUs are on one instruction clock
        "machine.sched_clock": "ticks",  # no ACPI, so no PM timer and no HPET
        "queue.nr_requests": max(row["nr_requests"], BLKDEV_MIN_RQ),
        "queue.max_segments": min(row["sg"], MOST_PAGES),
        "queue.elevator": ELEVATORS[row.get("elevator", "cfq")],
        "host.queue_depth": row["depth"],
        "host.can_queue": row["can_queue"],
        "disk.iops": row["iops"],
        "disk.bytes_per_second": row["rate"],
        "policy.command_rule": "fix" if row["fix"] else "rc8",
        "policy.slub_nomerge": bool(row["nomerge"]),
        "workload.copiers": row["copiers"],
        "workload.writers": row["writers"],
        "workload.writer_pages": row["writer_pages"],
        "workload.tree_files": row["tree_files"],
        "workload.start_spread_ms": row["spread"],
        "workload.swappiness": row["swappiness"],
        "workload.locked_pages": locked_pages(row),
        "workload.atomic_objects_per_s": row["obj_rate"],
        "workload.atomic_object_ms": in_jiffies(row["obj_ms"], row["hz"]),
        "workload.atomic_pages_per_s": row["page_rate"],
        "workload.atomic_page_ms": in_jiffies(row["page_ms"], row["hz"]),
        "run.duration_s": row["secs"],
        "run.series_ms": 250,
    }
    settings |= {f"costs.{name}": (ns << row["shift"]) // 2 for name, ns in COSTS.items()}
    named = base.model_copy(update={"name": row["run"], "variants": base.variants[:1]})
    try:
        return named.with_settings(settings)
    except InputError as error:
        faults = "; ".join(f"{fault.where.removeprefix('set: ')}: {fault.message}" for fault in error.each())
        raise InputError(path, row["run"], faults) from error
